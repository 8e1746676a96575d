"""What an operation works with: the connection, the store's now, and what to tell afterwards."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TypeVar

from aioq.plugins import Token

__all__ = ["Tx", "marks", "portions"]

T = TypeVar("T")

PORTIONS = (128, 32, 8, 2, 1)
"""Rows per statement. A statement lets go of Python's global lock at every step, and in a busy
process each step may then wait for it: so few statements with many rows, of few different texts."""


class Tx:
    """One transaction, or one snapshot for reading.

    Attributes:
        con: the connection; begin and commit are not the operation's business.
        now: the store's clock, in milliseconds.
        work: queues that got work for which a worker should be woken.
        cancels: by worker, the tokens of deliveries that were asked to stop.
        rooms: by worker, the queues it can take more from, or None when it is busy.
        records_from: records above this number are not tallied yet; None when all are.
    """

    __slots__ = ("cancels", "con", "now", "records_from", "rooms", "work")

    def __init__(self, con: sqlite3.Connection, now: int) -> None:
        self.con = con
        self.now = now
        self.work: set[str] = set()
        self.cancels: dict[bytes, list[Token]] = {}
        self.rooms: dict[str, Sequence[str] | None] = {}
        self.records_from: int | None = None


def portions(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows in slices of a few fixed sizes, so that few statements are prepared."""
    start = 0
    for size in PORTIONS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def marks(rows: int, width: int) -> str:
    """Placeholders for so many rows of so many values: ``(?,?),(?,?)``."""
    return ",".join([f"({','.join('?' * width)})"] * rows)
