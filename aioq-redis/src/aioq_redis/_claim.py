"""Taking jobs out: what a claim sends to each server in turn, and what comes of it."""

from collections.abc import Sequence
from typing import Any

from aioq.errors import AioqError
from aioq.plugins import Claimed, Delivery
from aioq_redis._packing import delivery, pack_id

__all__ = ["Haul"]


class Haul:
    """What one claim gathers from the servers that hold its queues, one after the other.

    A server that fails takes nothing from what the others have handed out: those jobs are this
    worker's, and if they were dropped their leases would run out. The failure is raised only when
    there is nothing to hand on; a later claim meets it again.

    Args: as of ``BaseBroker.claim``.
    """

    def __init__(
        self, limit: int, worker: str, lease_ms: int, max_bytes: int, quarantined: bool
    ) -> None:
        self._limit = limit
        self._owner = pack_id(worker)
        self._lease_ms = lease_ms
        self._room = max_bytes
        self._quarantined = quarantined
        self._jobs: list[Delivery] = []
        self._more = False
        self._soonest: int | None = None
        self._failure: AioqError | None = None

    @property
    def filled(self) -> bool:
        """There was as much as was asked for, or more."""
        return len(self._jobs) >= self._limit or self._more

    def args(self) -> list[Any]:
        """For lua/claim.lua: what may still come."""
        wants = int(self._quarantined)
        return [self._limit, self._room, wants, self._owner, self._lease_ms, len(self._jobs)]

    def read(self, queues: Sequence[str], reply: Sequence[Any]) -> None:
        """Take in what one server gave of its queues."""
        _, more, soonest, *rest = reply
        at = 0
        for queue in queues:
            end = at + 1 + 3 * rest[at]
            tail = queue.encode()
            for place in range(at + 1, end, 3):
                job = delivery(rest[place], rest[place + 1], rest[place + 2], queue, tail)
                self._jobs.append(job)
                self._room -= len(job.body)
                self._quarantined = self._quarantined and not job.quarantined
            at = end
        self._more = self._more or more == 1
        if soonest >= 0:
            self._soonest = soonest if self._soonest is None else min(soonest, self._soonest)

    def failed(self, exc: AioqError) -> None:
        """A server gave an error."""
        self._failure = exc

    def result(self) -> Claimed:
        if self._failure is not None and not self._jobs:
            raise self._failure
        return Claimed(self._jobs, self._more, self._soonest)
