"""SQL texts as they are written in this package, and as they are sent.

Written with the schema ``aioq.`` and with ``now_ms()`` for the server's clock, both replaced here.
"""

from dataclasses import dataclass, field
from typing import Final

from aioq.errors import InvalidOption

__all__ = ["LOWEST", "LOWEST_SQL", "MIGRATION_LOCK", "NOW", "SOON_MS", "UPKEEP_LOCK", "Texts"]

NOW: Final = "(extract(epoch from clock_timestamp()) * 1000)::bigint"
LOWEST: Final = -(2**63)
"""Below every sort key and instant.

``column >= $lowest`` stands in every query that must walk an index in order. Queue tables swing
between empty and full, so statistics lie; with this condition on the index's own column the planner
takes the index even on a table that was never analysed, instead of sorting the whole backlog.
"""
LOWEST_SQL: Final = f"'{LOWEST}'::bigint"
SOON_MS: Final = 6_000
"""What is due later than this is found by a poll, without a notification."""
MIGRATION_LOCK: Final = 0x61696F71
UPKEEP_LOCK: Final = MIGRATION_LOCK + 1
"""First keys of the advisory locks: ``aioq`` in ASCII, and on. The second one is the schema's."""
LONGEST_NAME: Final = 63


@dataclass(frozen=True)
class Texts:
    """Fills in a schema and a clock.

    Attributes:
        schema: name of the schema, unquoted.
        now: SQL expression for the store's clock, in milliseconds.

    Raises:
        InvalidOption: the name cannot be one of a schema.
    """

    schema: str
    now: str = NOW
    _filled: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    def __post_init__(self) -> None:
        size = len(self.schema.encode())
        if not 0 < size <= LONGEST_NAME or "\0" in self.schema or self.schema.startswith("pg_"):
            raise InvalidOption(
                f"schema must be a name of 1 to {LONGEST_NAME} bytes that does not begin with "
                f"'pg_', got {self.schema!r}"
            )

    @property
    def quoted(self) -> str:
        """The schema as an SQL identifier."""
        return '"{}"'.format(self.schema.replace('"', '""'))

    def __call__(self, text: str) -> str:
        """The text as it is sent."""
        filled = self._filled.get(text)
        if filled is None:
            filled = text.replace("now_ms()", self.now).replace("aioq.", f"{self.quoted}.")
            self._filled[text] = filled
        return filled
