"""Ending deliveries: what a call sends to each queue, and what the answers mean."""

from collections.abc import Sequence
from typing import Any

from aioq.plugins import Settled, SettleKind, Settlement
from aioq_redis._packing import split_token
from aioq_redis._settings import Kept

__all__ = ["SettleBatch"]

_KIND: dict[SettleKind, int] = {
    "completed": 0,
    "failed": 1,
    "cancelled": 2,
    "dead": 3,
    "retry": 4,
    "snooze": 5,
    "release": 6,
}
_DELAY, _NOTE, _RESULT, _TYPE = 8, 16, 32, 64
_ANSWER: dict[str, Settled] = {"a": "accepted", "k": "already", "s": "stale"}


class SettleBatch:
    """The items of one queue in one call.

    Args:
        kept: how long records and results stay where an item does not say so.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self.places: list[int] = []
        self.results: list[bytes] = []
        """Ids of jobs whose result is saved."""
        self._plan = bytearray()
        self._leases: list[bytes] = []
        self._extras: list[Any] = []

    @classmethod
    def by_queue(cls, items: Sequence[Settlement], kept: Kept) -> "dict[str, SettleBatch]":
        """Items in batches; those whose token is none of this broker's are in no batch."""
        batches: dict[str, SettleBatch] = {}
        for place, item in enumerate(items):
            parts = split_token(item.token)
            if parts is not None:
                lease, queue = parts
                batch = batches.get(queue)
                if batch is None:
                    batch = batches[queue] = cls(kept)
                batch.add(place, lease, item)
        return batches

    def add(self, place: int, lease: bytes, item: Settlement) -> None:
        """Take in the item that stands at ``place`` of the caller's list."""
        bits = _KIND[item.kind]
        extras = self._extras
        if item.delay_ms > 0:
            bits |= _DELAY
            extras.append(item.delay_ms)
        if item.note is not None:
            bits |= _NOTE
            extras.append(item.note)
        if item.result is not None and bits & 7 < _KIND["retry"]:
            bits |= _RESULT
            ttl = item.result_ttl_ms
            ttl = self._kept.completed_ms if ttl is None else max(ttl, 1)
            extras.append(item.result)
            extras.append(ttl)
            self.results.append(lease[:16])
            if item.content_type is not None:
                bits |= _TYPE
                extras.append(item.content_type)
        self.places.append(place)
        self._plan.append(bits)
        self._leases.append(lease)

    def args(self) -> list[Any]:
        """For lua/settle.lua."""
        kept = self._kept
        head = (len(self._leases), bytes(self._plan), kept.completed_ms, kept.other_ms)
        return [*head, kept.completed, *self._leases, *self._extras]

    def read(self, reply: bytes, answers: list[Settled]) -> None:
        """Put the answers where the caller's items stand."""
        for place, letter in zip(self.places, reply.decode(), strict=True):
            answers[place] = _ANSWER[letter]
