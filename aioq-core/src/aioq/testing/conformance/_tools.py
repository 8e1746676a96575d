"""What the tests say in one word: make jobs, claim, settle, crash; and the ledger of every job."""

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias
from uuid import uuid4

from aioq._broker import BaseBroker
from aioq._ids import new_job_id
from aioq._records import (
    FINISHED,
    STATUSES,
    Added,
    CancelAnswer,
    Delivery,
    JobInfo,
    NewJob,
    QueueStats,
    Settled,
    SettleKind,
    Settlement,
    Token,
    Upkeep,
    WorkerInfo,
)

__all__ = ["Advance", "Kit", "new_worker", "worker_info"]

Advance: TypeAlias = Callable[[int], Awaitable[None]]

SHORTEST_RECORD_MS = 3_000_000
"""Records may be gone after this much time; no store may drop one before."""


def new_worker() -> str:
    """The id of a worker process that has just started."""
    return str(uuid4())


def worker_info(worker: str | None = None, *queues: str) -> WorkerInfo:
    """A worker as it registers itself."""
    return WorkerInfo(
        id=worker or new_worker(),
        hostname="host",
        pid=4711,
        queues=queues or ("q",),
        concurrency=10,
        version="0",
    )


class Ledger:
    """Every job that the store said it has, and which of them may be gone."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        """Id -> queue."""
        self.ended: set[str] = set()
        self.deleted: set[str] = set()
        self.elapsed_ms = 0

    def may_be_gone(self, job_id: str) -> bool:
        return job_id in self.deleted or (
            job_id in self.ended and self.elapsed_ms >= SHORTEST_RECORD_MS
        )


class Kit:
    """A broker in the hands of a test.

    Each claim comes from a worker process of its own unless the test names one, so that a job is
    never adopted by accident.
    """

    def __init__(
        self,
        broker: BaseBroker,
        advance: Advance,
        *,
        lease_ms: int = 30_000,
        ledger: Ledger | None = None,
    ) -> None:
        self.broker = broker
        self.lease_ms = lease_ms
        self.ledger = ledger or Ledger()
        self.producer = os.urandom(8)
        self._advance = advance
        self._numbers: Counter[str] = Counter()

    def on(self, broker: BaseBroker) -> "Kit":
        """The same tools and the same ledger on another broker of the same store."""
        return Kit(broker, self._advance, lease_ms=self.lease_ms, ledger=self.ledger)

    async def advance(self, ms: int) -> None:
        """Move the store's clock."""
        if self.ledger.elapsed_ms + ms >= SHORTEST_RECORD_MS:
            await self._note_ends()
        self.ledger.elapsed_ms += ms
        await self._advance(ms)

    # -- in ---------------------------------------------------------------------------------------

    def make(self, count: int = 1, *, queue: str = "q", **fields: Any) -> list[NewJob]:
        """Jobs that are not sent yet."""
        plain = NewJob("", queue, "kit.task", b"policy", b"body")._replace(**fields)
        return [plain._replace(id=new_job_id()) for _ in range(count)]

    async def add(self, jobs: Sequence[NewJob]) -> Sequence[Added]:
        """Send jobs as one batch with the next number of each queue."""
        queues = {job.queue for job in jobs}
        self._numbers.update(queues)
        numbers = {queue: self._numbers[queue] for queue in queues}
        return await self.send(jobs, self.producer, numbers)

    async def send(
        self, jobs: Sequence[NewJob], producer: bytes, numbers: dict[str, int]
    ) -> Sequence[Added]:
        """Send jobs as a batch with these numbers."""
        answers = await self.broker.enqueue(jobs, producer=producer, numbers=numbers)
        assert len(answers) == len(jobs), "enqueue gives one answer per job"
        for job, answer in zip(jobs, answers, strict=True):
            if answer.status == "new":
                self.ledger.jobs[job.id] = job.queue
                self.ledger.ended.discard(job.id)
                self.ledger.deleted.discard(job.id)
        return answers

    async def enqueue(self, count: int = 1, *, queue: str = "q", **fields: Any) -> list[NewJob]:
        """Make and store jobs, all new, in batches that the broker takes."""
        jobs = self.make(count, queue=queue, **fields)
        for batch in self.batches(jobs):
            statuses = {answer.status for answer in await self.add(batch)}
            assert statuses == {"new"}, "a fresh job in a fresh batch is stored as new"
        return jobs

    async def one(self, **fields: Any) -> NewJob:
        """Make and store one job."""
        (job,) = await self.enqueue(1, **fields)
        return job

    def batches(self, items: Sequence[Any]) -> Iterable[Any]:
        """The items in slices that one call of the broker takes."""
        size = self.broker.capabilities.max_batch
        return (items[start : start + size] for start in range(0, len(items), size))

    # -- out --------------------------------------------------------------------------------------

    async def claim(
        self,
        limit: int = 100,
        *,
        queues: Sequence[str] = ("q",),
        worker: str | None = None,
        **options: Any,
    ) -> Sequence[Delivery]:
        """Claim up to ``limit`` jobs."""
        claimed = await self.broker.claim(
            queues, limit, worker=worker or new_worker(), lease_ms=self.lease_ms, **options
        )
        assert len(claimed.jobs) <= limit, "case 7: a claim returned more jobs than asked"
        return claimed.jobs

    async def take(self, job: NewJob | None = None, **options: Any) -> Delivery:
        """Claim one job, which must be there, and be this one when it is named."""
        deliveries = await self.claim(1, **options)
        assert deliveries, "a ready job was not handed out"
        if job is not None:
            assert deliveries[0].id == job.id, "another job was handed out"
        return deliveries[0]

    async def drain(self, **options: Any) -> list[Delivery]:
        """Claim until nothing is left, in the order handed out."""
        taken: list[Delivery] = []
        while jobs := await self.claim(self.broker.capabilities.max_batch, **options):
            taken += jobs
        return taken

    # -- ends -------------------------------------------------------------------------------------

    async def settle(
        self, delivery: Delivery | Token, kind: SettleKind = "completed", **fields: Any
    ) -> Settled:
        """End one delivery."""
        token = delivery if isinstance(delivery, bytes) else delivery.token
        (answer,) = await self.settle_all([Settlement(token, kind, **fields)])
        return answer

    async def settle_all(self, items: Sequence[Settlement]) -> Sequence[Settled]:
        """End deliveries in one call."""
        answers = await self.broker.settle(items)
        assert len(answers) == len(items), "settle gives one answer per item"
        return answers

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        """End these as completed, all accepted."""
        for batch in self.batches([Settlement(item.token, "completed") for item in deliveries]):
            answers = await self.settle_all(batch)
            assert set(answers) == {"accepted"}, "the owner's completion is accepted"

    async def cancel(self, job: NewJob) -> CancelAnswer:
        """Cancel one job."""
        (answer,) = await self.broker.cancel([job.id])
        return answer

    async def delete(self, job: NewJob) -> bool:
        """Delete one job or record."""
        (done,) = await self.broker.delete([job.id])
        if done:
            self.ledger.deleted.add(job.id)
        return done

    # -- time -------------------------------------------------------------------------------------

    async def upkeep(self, *queues: str, budget: int = 500) -> Upkeep:
        """One call of upkeep."""
        return await self.broker.upkeep(queues or ("q",), lease_ms=self.lease_ms, budget=budget)

    async def lapse(self, *queues: str) -> None:
        """Let a lease's time pass as under a working store: the next upkeep may rescue.

        Upkeep runs in between, so that the store does not take the silence for an outage. Steps are
        small, and the last upkeep early: a store whose own clock goes on may be slow meanwhile.
        """
        step = self.lease_ms * 8 // 30
        await self.upkeep(*queues)
        for _ in range(3):
            await self.advance(step)
            await self.upkeep(*queues)
        await self.advance(step)

    async def crash(self, *queues: str) -> Upkeep:
        """Let all leases expire and rescue what ran."""
        await self.lapse(*queues)
        return await self.upkeep(*queues)

    async def crash_times(self, job: NewJob, times: int) -> None:
        """Claim this only job and let its worker die, so many times."""
        for _ in range(times):
            await self.take(job)
            await self.crash()
            await self.advance(60_000)

    # -- looking ----------------------------------------------------------------------------------

    async def look(self, job: NewJob | Delivery | str) -> JobInfo | None:
        """What the store knows of a job."""
        (info,) = await self.broker.get([job if isinstance(job, str) else job.id])
        return info

    async def info(self, job: NewJob | Delivery | str) -> JobInfo:
        """What the store knows of a job that it must know."""
        info = await self.look(job)
        assert info is not None, "the store does not know a job that it was given"
        return info

    async def status(self, job: NewJob | Delivery | str) -> str:
        """The status of a job that the store must know."""
        return (await self.info(job)).status

    async def stats(self, queue: str = "q") -> QueueStats:
        """Counts of one queue."""
        (stats,) = await self.broker.counts([queue])
        return stats

    async def check_ledger(self) -> None:
        """Case 78: no job is lost, none is doubled, and the counts say the same as ``get``."""
        seen: dict[str, Counter[str]] = {}
        ids = list(self.ledger.jobs)
        for batch in self.batches(ids):
            for job_id, info in zip(batch, await self.broker.get(batch), strict=True):
                if info is None:
                    assert self.ledger.may_be_gone(job_id), f"case 78: job {job_id} is lost"
                    continue
                assert info.queue == self.ledger.jobs[job_id], "case 78: a job changed its queue"
                tally = seen.setdefault(info.queue, Counter())
                tally[info.status] += 1
        queues = sorted(set(self.ledger.jobs.values()))
        for stats in await self.broker.counts(queues) if queues else ():
            counted = {status: getattr(stats, status) for status in STATUSES}
            tally = seen.get(stats.queue, Counter())
            wanted = {status: tally[status] for status in STATUSES}
            assert counted == wanted, f"case 78: counts and jobs of {stats.queue!r} differ"

    async def _note_ends(self) -> None:
        """Which jobs have ended, because time may take their records from now on."""
        for batch in self.batches(list(self.ledger.jobs)):
            for info in await self.broker.get(batch):
                if info is not None and info.status in FINISHED:
                    self.ledger.ended.add(info.id)
