"""The numbered steps of the schema, and which code works on which of them.

A step's file is named ``0002_expand_what_it_does.sql``. *expand* adds what older code does not see;
*contract* removes what it needs, at the earliest one minor release later, and its first line says
which code still works: ``-- needs: 2``. Each step is one transaction.
"""

import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

__all__ = ["KNOWN", "NEEDED", "STEPS", "Step"]

NEEDED: Final = 1
"""The first step on which this code works."""

_NAME: Final = re.compile(r"(\d{4})_(expand|contract)_(\w+)\.sql")
_NEEDS: Final = re.compile(r"^-- needs: (\d+)$", re.M)


@dataclass(frozen=True)
class Step:
    """One migration.

    Attributes:
        number: counts from 1.
        kind: ``expand`` or ``contract``.
        title: what it does, from the file's name.
        sql: statements on the schema ``aioq.``, which is replaced.
        needs: code that knows fewer steps than this does not work afterwards.
    """

    number: int
    kind: str
    title: str
    sql: str
    needs: int

    def __str__(self) -> str:
        return f"step {self.number} ({self.kind}): {self.title}"


def _read() -> tuple[Step, ...]:
    steps: list[Step] = []
    for file in resources.files("aioq_postgres").joinpath("sql").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            number, kind, title = match.groups()
            sql = file.read_text("utf-8")
            needs = _NEEDS.search(sql)
            steps.append(
                Step(
                    int(number),
                    kind,
                    title.replace("_", " "),
                    sql,
                    int(needs.group(1)) if needs else 1,
                )
            )
    return tuple(sorted(steps, key=lambda step: step.number))


STEPS: Final = _read()
KNOWN: Final = STEPS[-1].number
"""The last step this code knows."""
