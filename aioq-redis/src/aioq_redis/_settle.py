"""Ending deliveries, and keeping them alive: what the two calls send, and what the answers mean."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from aioq.plugins import Renewed, Settled, SettleKind, Settlement, Token
from aioq_redis._packing import split_token

__all__ = ["Kept", "Renewal", "SettleBatch"]

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


class Kept(NamedTuple):
    """For how long, and how many, records of finished jobs are kept."""

    completed_ms: int
    completed: int
    other_ms: int
    other: int


class SettleBatch:
    """The items of one queue in one call."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.results: list[bytes] = []
        """Ids of jobs whose result is saved."""
        self._plan = bytearray()
        self._leases: list[bytes] = []
        self._extras: list[Any] = []

    def add(self, place: int, lease: bytes, item: Settlement, default_ttl_ms: int) -> None:
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
            ttl = default_ttl_ms if item.result_ttl_ms is None else max(item.result_ttl_ms, 1)
            extras.append(item.result)
            extras.append(ttl)
            self.results.append(lease[:16])
            if item.content_type is not None:
                bits |= _TYPE
                extras.append(item.content_type)
        self.places.append(place)
        self._plan.append(bits)
        self._leases.append(lease)

    def args(self, kept: Kept) -> list[Any]:
        """For lua/settle.lua."""
        head = (len(self._leases), bytes(self._plan), kept.completed_ms, kept.other_ms)
        return [*head, kept.completed, *self._leases, *self._extras]

    def read(self, reply: bytes, answers: list[Settled]) -> None:
        """Put the answers where the caller's items stand."""
        for place, letter in zip(self.places, reply.decode(), strict=True):
            answers[place] = _ANSWER[letter]


class Renewal:
    """Tokens by queue; ``queues`` are those of which this process shows that it lives.

    Args:
        tokens: what to renew.
        served: queues this process claims from: its sign of life counts for them as well.
    """

    def __init__(self, tokens: Sequence[Token], served: Collection[str]) -> None:
        self._tokens: dict[str, list[Token]] = {queue: [] for queue in served}
        self._leases: dict[str, list[bytes]] = {queue: [] for queue in served}
        self._lost: list[Token] = []
        self._cancelled: list[Token] = []
        for token in tokens:
            parts = split_token(token)
            if parts is None:
                self._lost.append(token)
            else:
                self._tokens.setdefault(parts[1], []).append(token)
                self._leases.setdefault(parts[1], []).append(parts[0])

    @property
    def queues(self) -> list[str]:
        return list(self._tokens)

    def args(self, queue: str, lease_ms: int) -> list[Any]:
        """For lua/renew.lua."""
        leases = self._leases[queue]
        return [lease_ms, len(leases), *leases]

    def read(self, queue: str, reply: bytes) -> None:
        """Take in the answer for one queue."""
        put: dict[str, Callable[[Token], None]] = {
            "l": self._lost.append,
            "s": self._cancelled.append,
        }
        for token, letter in zip(self._tokens[queue], reply.decode(), strict=True):
            if letter in put:
                put[letter](token)

    def result(self) -> Renewed:
        return Renewed(self._lost, self._cancelled)
