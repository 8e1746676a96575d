"""Counts of the queues, asked by one worker and only while somebody reads them."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import anyio

from aioq.errors import NotSupported
from aioq.plugins import BaseBroker, QueueStats
from aioq_otel._options import QueueMetrics

__all__ = ["Reporter", "Snapshot"]

PERIOD: Final = 10.0
"""Seconds from one look at the store to the next."""
PERIODS_VALID: Final = 3
READERS_REST: Final = 180.0
"""Seconds without a reader after which the store is asked no more; readers come every minute."""

_log = logging.getLogger("aioq.otel")


class Snapshot:
    """What the store said last; readers in other threads see it until it is old.

    Args:
        attributes: of the store.
        period: seconds between two looks.
    """

    def __init__(self, attributes: Mapping[str, str | int], period: float = PERIOD) -> None:
        self.attributes = attributes
        self.period = period
        self._stats: Sequence[QueueStats] = ()
        self._taken = self._read = -READERS_REST

    @property
    def wanted(self) -> bool:
        """Whether somebody has read it lately."""
        return time.monotonic() - self._read < READERS_REST

    def put(self, stats: Sequence[QueueStats]) -> None:
        self._stats, self._taken = stats, time.monotonic()

    def read(self) -> Sequence[QueueStats]:
        """The counts; none when they are older than three periods."""
        now = time.monotonic()
        self._read = now
        return self._stats if now - self._taken < PERIODS_VALID * self.period else ()


class Reporter:
    """Keeps a snapshot fresh.

    Args:
        broker: whom to ask.
        snapshot: where to put the answer.
        mode: ``auto`` leaves it to the living worker with the lowest id.
        worker_id: of this worker.
    """

    def __init__(
        self, broker: BaseBroker, snapshot: Snapshot, mode: QueueMetrics, worker_id: str
    ) -> None:
        self._broker = broker
        self._snapshot = snapshot
        self._mode = mode
        self._worker_id = worker_id
        self._told = False

    async def run(self) -> None:
        """Until it is cancelled; no failure ends it."""
        while True:
            if self._snapshot.wanted:
                try:
                    if await self._is_mine():
                        self._snapshot.put(await self._broker.queue_stats())
                    self._told = False
                except Exception as exc:
                    if not self._told:
                        self._told = True
                        _log.warning("the queues cannot be counted for metrics: %s", exc)
            period = self._snapshot.period
            await anyio.sleep(period if self._snapshot.wanted else period / 10)

    async def _is_mine(self) -> bool:
        if self._mode == "on":
            return True
        try:
            workers = await self._broker.list_workers()
        except NotSupported:
            return True
        return min((worker.id for worker in workers), default=self._worker_id) >= self._worker_id
