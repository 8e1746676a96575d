"""The broker behind ``offline``: jobs in memory, a clock that can be moved, and a record of all."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aioq._clock import wall_ms
from aioq._job import Job
from aioq._memory import MemoryBroker
from aioq._outcome import Failed, Outcome
from aioq._records import Added, Claimed, JobInfo, NewJob
from aioq.middleware import Middleware, Order, RunningJob

__all__ = ["Errors", "OfflineBroker", "Sent"]

FOR_EVER = 1 << 50
"""Records must outlive every jump of the clock, and any number of others."""


class Clock:
    """The host's time, plus what it was moved on; in milliseconds."""

    def __init__(self) -> None:
        self._ahead = 0

    def __call__(self) -> int:
        return wall_ms() + self._ahead

    def advance(self, ms: int) -> None:
        self._ahead += ms


class Sent(NamedTuple):
    """A job as it was enqueued."""

    job: NewJob
    delay_ms: int
    """From then until it was due."""


class OfflineBroker(MemoryBroker):
    """Remembers what was enqueued, and serves all queues to any worker.

    Attributes:
        sent: every job by id, in order.
        attempts: how often each job was handed out since ``start``.
        endless: more jobs were handed out than ``start`` allows.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(clock=self.clock, keep_finished=FOR_EVER, max_records=FOR_EVER)
        self.sent: dict[str, Sent] = {}
        self._queues: dict[str, None] = {}
        self.start(jumping=False, most=0)

    def start(self, *, jumping: bool, most: int) -> None:
        """Begin a run of at most so many attempts; ``jumping`` to whatever is due next."""
        self.attempts = Counter[str]()
        self.endless = False
        self._jumping = jumping
        self._most = most

    def found(self) -> Iterator[tuple[Sent, JobInfo | None]]:
        """Every job that was enqueued, and what the store knows of it now."""
        return zip(self.sent.values(), self._store.get(list(self.sent)), strict=True)

    def as_job(self, info: JobInfo) -> Job[Any]:
        """A job whose task the app does not have."""
        return self._to_job(info)

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        added = await super().enqueue(jobs, producer=producer, numbers=numbers)
        for job, answer in zip(jobs, added, strict=True):
            if answer.status == "new":
                delay = job.delay_ms if job.at_ms is None else max(0, job.at_ms - answer.at_ms)
                self.sent[job.id] = Sent(job, delay)
                self._queues[job.queue] = None
        return added

    async def claim(
        self,
        queues: Sequence[str],
        limit: int,
        *,
        worker: str,
        lease_ms: int,
        max_bytes: int = 1_048_576,
        quarantined: bool = True,
    ) -> Claimed:
        everywhere = list(dict.fromkeys([*queues, *self._queues]))
        while True:
            room = self._most - self.attempts.total()
            if room <= 0:
                self.endless = self.endless or await self._anything_due(everywhere)
                return Claimed([])
            claimed = await super().claim(
                everywhere,
                min(limit, room),
                worker=worker,
                lease_ms=lease_ms,
                max_bytes=max_bytes,
                quarantined=quarantined,
            )
            self.attempts.update(delivery.id for delivery in claimed.jobs)
            if claimed.jobs or claimed.due_in_ms is None or not self._jumping:
                return claimed
            if any(queue.running for queue in await self.counts()):
                return claimed
            self.clock.advance(claimed.due_in_ms)

    async def _anything_due(self, queues: Sequence[str]) -> bool:
        return any(
            queue.pending or (self._jumping and (queue.scheduled or queue.retrying))
            for queue in await self.counts(queues)
        )


class Errors(Middleware):
    """Keeps what tasks raised last, as the objects they are."""

    order = Order.TRACE

    def __init__(self) -> None:
        self.by_id: dict[str, BaseException] = {}

    async def settled(self, job: RunningJob, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self.by_id[job.id] = outcome.error
