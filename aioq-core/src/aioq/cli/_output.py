"""What people and programs read: tables, JSON, and one line for whatever is wrong."""

import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from aioq._models import plain

__all__ = [
    "as_json",
    "count_of",
    "error",
    "let_go_of_stderr",
    "note",
    "one_line",
    "place",
    "print_json",
    "printable",
    "show_warning",
    "stdout_is_closed",
    "table",
    "utc",
]


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with control characters shown as escapes: what a job holds cannot steer a terminal.

    Line breaks and tabs stay.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text
    )


def error(text: str) -> None:
    """One ``error:`` line on stderr."""
    click.echo(f"error: {one_line(text)}", err=True)


def note(text: str) -> None:
    """A line for people, on stderr, out of the way of what programs read."""
    click.echo(one_line(text), err=True)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """``warnings.showwarning``: one ``warning:`` line, without source code.

    A closed stderr must not turn a warning into an error of the task that caused it.
    """
    with suppress(OSError):
        click.echo(f"warning: {one_line(str(message))}", file=file, err=True)


def place(filename: str, lineno: int) -> str:
    """``tasks.py:7``: where in a file, which is named as from the working directory."""
    with suppress(OSError, ValueError):  # that directory is gone, or the file is elsewhere
        filename = str(Path(filename).relative_to(Path.cwd()))
    return f"{filename}:{lineno}"


def as_json(value: Any) -> str:
    """The value as JSON; what JSON does not know is shown as its ``repr``."""
    return msgspec.json.encode(value, enc_hook=plain).decode()


def print_json(value: Any) -> None:
    """The value as indented JSON on stdout."""
    click.echo(msgspec.json.format(as_json(value), indent=2))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, two spaces apart."""
    lines = [head, *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def count_of(number: int, what: str) -> str:
    """``1 job``, ``1,234 jobs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def utc(instant: datetime | None) -> str:
    """A UTC time to the second; ``-`` for none."""
    return "-" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"


def stdout_is_closed() -> bool:
    """Whether the reader of stdout has gone; it is then pointed at nothing, so that leaving is
    quiet."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    _point_at_nothing(sys.stdout)
    return True


def let_go_of_stderr() -> None:
    """Where its reader has gone, point stderr at nothing: Python would try once more to write what
    it still holds, and turn the exit code into 120."""
    try:
        sys.stderr.flush()
    except OSError:
        _point_at_nothing(sys.stderr)


def _point_at_nothing(stream: TextIO) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
