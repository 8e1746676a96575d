"""Keeping deliveries alive: what a renewal sends to each queue, and what the answers mean."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from aioq.plugins import Renewed, Token
from aioq_redis._packing import split_token

__all__ = ["Renewal"]


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
