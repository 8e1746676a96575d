"""``BaseBroker``: the contract every store keeps, and the user-facing methods built on it once.

A broker is only storage. It moves opaque jobs between the places *ready*, *quarantine*,
*scheduled*, *running* and *done*; each move is one atomic step in the store. Time policies,
serialisation, batching, middleware and retries live in the core. What must hold is spelled out in
docs/brokers.md and proved by ``aioq.testing.conformance``.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import anyio

from aioq._codec import Codec
from aioq._job import Job
from aioq._loop import current_loop
from aioq._namespace import DEFAULT_NAMESPACE, check_namespace
from aioq._records import (
    FINISHED,
    MAX_BATCH,
    STATUSES,
    Added,
    CancelAnswer,
    Capabilities,
    Claimed,
    Filter,
    Hint,
    JobInfo,
    NewJob,
    Page,
    QueueStats,
    Renewed,
    Settled,
    Settlement,
    Status,
    Token,
    Upkeep,
    WorkerInfo,
)
from aioq._wire import Body
from aioq.errors import ConfigurationError, InvalidOption, JobNotFound, NotSupported

__all__ = ["BaseBroker", "LeaseClient", "check_loop"]

Self = TypeVar("Self", bound="BaseBroker")

PRUNE_BATCH = 1000
_INSIDE = (
    "enqueue in a transaction of yours: options(connection=...) is for brokers that keep their "
    "jobs in your database, such as PostgresBroker"
)


class LeaseClient(ABC):
    """Renews leases from a thread of its own, on a connection of its own, without an event loop.

    A task that blocks the loop therefore does not lose its job.
    """

    @abstractmethod
    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        """As ``BaseBroker.renew``, synchronous. Must return or raise within ``lease_ms / 3``.

        Raises:
            BrokerUnavailable: the store is out of reach; reconnecting is the next call's business.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the connection; called from the thread that renewed."""


class BaseBroker(ABC):
    """Where jobs are stored.

    The abstract methods are what a broker starts with; the others have a default that polls, or
    that says the broker does not offer the call (declare it in ``capabilities``). Every method may
    raise ``BrokerUnavailable`` (the caller tries again) and must never leave half of a move behind,
    also when the awaiting task is cancelled; all of it may still be applied then, where it was on
    its way to a server. Batches hold at most ``capabilities.max_batch`` items.

    Args:
        max_payload: largest size in bytes of a job's arguments, or of its saved result.
        max_crashes: a job that has killed its worker this often, the last time alone in
            quarantine, becomes ``dead``; at least 3.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, *, max_payload: int = 1_048_576, max_crashes: int = 3) -> None:
        if max_payload < 1:
            raise InvalidOption(
                f"max_payload must be a positive number of bytes, got {max_payload}"
            )
        if max_crashes < 3:
            raise InvalidOption(f"max_crashes must be at least 3, got {max_crashes}")
        self.max_payload = max_payload
        self.max_crashes = max_crashes
        self._namespace = DEFAULT_NAMESPACE
        self._codec = Codec()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    # == the contract ===========================================================================

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the store is, for banners and messages; never with a password."""

    @property
    def namespace(self) -> str:
        """The part of the store that this broker sees, ``"aioq"`` unless another was chosen."""
        return self._namespace

    def use_namespace(self, name: str) -> None:
        """Choose the part of the store that this broker sees, before it is opened.

        Brokers of different namespaces on one store never meet: each has its own jobs and ids,
        queues, pauses, batch numbers and workers. A broker that keeps this promise declares the
        capability, and finds its tables, keys or files by the name.

        Raises:
            InvalidOption: it is no name of a namespace.
            ConfigurationError: the broker is in another one.
            NotSupported: the broker cannot keep namespaces apart.
        """
        check_namespace(name)
        if name == self._namespace:
            return
        if not self.capabilities.namespaces:
            raise self._lacks("keep namespaces apart: leave the namespace out")
        if self._namespace != DEFAULT_NAMESPACE:
            raise ConfigurationError(
                f"the broker of {self.url} is in the namespace {self._namespace!r}, not in "
                f"{name!r}: give each namespace a broker of its own"
            )
        self._namespace = name

    async def exists(self) -> bool:
        """Whether ``open`` finds a store rather than making one; it makes none itself.

        Asked before a command only looks. The default is True: a server is there or out of reach.
        """
        return True

    @abstractmethod
    async def open(self) -> None:
        """Connect and check version and settings. Calling it on an open broker does nothing.

        A broker may be used from several event loops, each of which opens it and closes it; and in
        a child of a fork, which opens it anew and leaves the parent's connections alone.

        Raises:
            BrokerUnavailable: the store is out of reach.
            ConfigurationError: it cannot be used as it is; the message says what to do.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connections of this event loop, and of those that all share when it is the
        last one. Calling it on a closed broker does nothing."""

    @abstractmethod
    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        """Store jobs; one answer per job, in order.

        ``producer`` (8 random bytes per process start) and the batch number of each queue make the
        call repeatable: a number not above the last one stored for this producer and queue is
        answered ``already`` for all its jobs and changes nothing, also when the first copy arrives
        after its re-send. The numbers are stored in the same atomic unit as the jobs and dropped
        after an hour without use. A live id is never stored twice; with ``check_exists`` an id
        whose record is kept is refused as well. Durations count from the store's now. A job that is
        due goes to *ready*, ordered by ``due - priority * 60 s``, then by id; any other to
        *scheduled*. Whoever waits in ``hints`` learns of the new work.

        Raises:
            BatchRejected: an item cannot be stored; nothing was.
        """

    @abstractmethod
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
        """Hand out up to ``limit`` ready jobs, from the queues in the order given.

        In one atomic step each job becomes *running*, owned by the token made for it, with a lease
        of ``lease_ms``. Due scheduled jobs of these queues are promoted first (a bounded number).
        Bodies stop being added above ``max_bytes`` in all, but at least one job is returned.
        Paused queues give nothing. At most one job comes from *quarantine*, in its turn by sort
        key, and only with ``quarantined``. A job whose last delivery belonged to this same
        ``worker`` and was ended by a rescue gets that crash taken back: the process lives.
        """

    @abstractmethod
    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        """End deliveries; one answer per item, in order; each item stands alone.

        The token is compared in the same atomic step. ``accepted``: the job was moved.
        ``already``: this token has ended its delivery before. ``stale``: anything else, nothing
        changed; so is the token of a job that is gone and whose id another job has now. Two things
        are accepted although the lease is gone: a *completion* while the job waits after a rescue
        and no newer delivery has started, and a completion of a delivery the store has forgotten
        (it knows only lower numbers). A ``retry``, ``snooze`` or ``release`` of a job whose cancel
        was asked ends it ``cancelled``; a completion stays a completion. Finished jobs leave a
        record: status, times, token, policy, note, the result if there is one, and the body unless
        they completed. A token occurs at most once per call.

        Raises:
            BatchRejected: an item cannot be stored; nothing was.
        """

    @abstractmethod
    async def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        """Extend the leases of these deliveries to ``lease_ms`` from the store's now.

        Never creates a lease. Tokens that do not own a running job (any more) are ``lost``; those
        whose cancel was asked are ``cancelled`` (and renewed). Stamps the store (see ``upkeep``).
        """

    @abstractmethod
    def for_lease_thread(self) -> LeaseClient:
        """A synchronous ``renew`` for the lease thread, with a connection of its own."""

    @abstractmethod
    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        """Promote due jobs, rescue expired leases, trim old records; bounded by ``budget`` each.

        At least for these queues; a store may look after others as well.
        Idempotent, safe on any worker at any time, leaderless. A rescue tests the lease in the same
        atomic step that moves the job: ``crashes + 1``; cancel asked: *cancelled*. Else the first
        crash: to *ready*; the second and later: to *quarantine*; from the third on, when the
        delivery came from quarantine and ``crashes >= max_crashes``: *dead*, otherwise after a
        back-off of 10 s, then 60 s. Rescue keeps the token, not ended.

        The store stamps the last ``renew`` or ``upkeep``. The first of them that finds this gap
        longer than half a lease holds back all rescues for one lease, so that after an outage the
        living can renew first.
        """

    @abstractmethod
    async def get(self, job_ids: Sequence[str]) -> Sequence[JobInfo | None]:
        """Live jobs or records by id, in order; None for what the store does not know."""

    @abstractmethod
    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        """Counts of these queues, or of all known ones, ordered by name."""

    # -- what a broker may leave out --------------------------------------------------------------

    async def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        """Tell a worker of work and of cancelled deliveries, for as long as it runs.

        A hint of work is given to one worker that has ``free() > 0``; losing one costs a poll,
        never a job. Cancels reach the worker also when it is full. The default polls once a second.
        """
        while True:
            await anyio.sleep(1.0)
            if free() > 0:
                yield Hint()

    async def wait_finished(self, job_id: str) -> JobInfo | None:
        """Return the job's record as soon as it has finished; None when the store does not know it.

        The default polls, from 10 ms up to once a second.
        """
        pause = 0.01
        while True:
            (info,) = await self.get([job_id])
            if info is None or info.status in FINISHED:
                return info
            await anyio.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    async def enqueue_inside(self, connection: object, jobs: Sequence[NewJob]) -> Sequence[Added]:
        """Store jobs in the transaction that the caller's ``connection`` is in.

        Nothing is opened, committed or sent again, and the broker need not be open. ``exists``
        answers an id that is live, or with ``check_exists`` one whose record is kept, and leaves
        the transaction usable. What the driver raises goes to the caller as it is.

        Raises:
            ConfigurationError: no such connection is known, or it belongs to
                ``enqueue_inside_sync``.
        """
        raise self._lacks(_INSIDE)

    def enqueue_inside_sync(self, connection: object, jobs: Sequence[NewJob]) -> Sequence[Added]:
        """``enqueue_inside`` on a connection that works without an event loop."""
        raise self._lacks(_INSIDE)

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[CancelAnswer]:
        """Cancel waiting jobs at once; mark running ones and hint their worker."""
        raise self._lacks("cancel jobs")

    async def requeue(self, job_ids: Sequence[str]) -> Sequence[bool]:
        """Failed, dead or cancelled jobs back to *ready*; True where that was done.

        Retries, crashes and note are cleared; the delivery number goes on, so that old tokens stay
        stale.
        """
        raise self._lacks("requeue jobs")

    async def find(self, where: Filter, limit: int, cursor: str | None = None) -> Page:
        """A page of jobs, newest id first; stable while jobs move.

        ``cursor`` is opaque. A job that exists throughout the listing appears exactly once.

        Raises:
            InvalidOption: the cursor is none that this listing gave.
        """
        raise self._lacks("list jobs")

    async def delete(self, job_ids: Sequence[str]) -> Sequence[bool]:
        """Remove jobs and records; False for what runs or is unknown."""
        raise self._lacks("delete jobs")

    async def delete_where(self, where: Filter, limit: int) -> int:
        """Remove up to ``limit`` jobs and records, never a running one; how many they were."""
        raise self._lacks("delete jobs")

    async def count_where(self, where: Filter) -> int:
        """How many jobs and records ``delete_where`` would remove, if it removed all.

        The default pages through ``find``.
        """
        total, cursor = 0, None
        while True:
            page = await self.find(where, MAX_BATCH, cursor)
            total += sum(info.status != "running" for info in page.jobs)
            if page.cursor is None:
                return total
            cursor = page.cursor

    async def set_paused(self, queue: str, paused: bool) -> None:
        """A paused queue takes jobs and gives none."""
        raise self._lacks("pause queues")

    async def beat(self, worker: WorkerInfo) -> None:
        """Enter the worker in the registry, or refresh its entry."""

    async def forget(self, worker_id: str) -> None:
        """Take the worker out of the registry."""

    async def workers(self) -> Sequence[WorkerInfo]:
        """Workers whose last beat is less than a minute old."""
        raise self._lacks("list workers")

    def _lacks(self, what: str) -> NotSupported:
        return NotSupported(f"{type(self).__name__} cannot {what}")

    # == for users ==============================================================================

    def bind(self, codec: Codec) -> None:
        """Called by the app: results and arguments are read with its serializers."""
        self._codec = codec

    async def __aenter__(self: Self) -> Self:
        check_loop(self)
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def get_job(self, job_id: str) -> Job[Any] | Any:
        """The job with this id, live or finished; None when the store does not know it.

        Its result and arguments come in the serializer's own types; ``task.get_job`` decodes them
        by the task's annotations.
        """
        info = await self.find_info(job_id)
        return None if info is None else self._to_job(info)

    async def list_jobs(
        self,
        *,
        queue: str | None = None,
        status: Status | Iterable[Status] | None = None,
        task: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> "JobPage":
        """A page of jobs, newest first; pass the page's ``cursor`` to get the next one.

        Args:
            queue: only this queue.
            status: only this status, or these.
            task: only the task of this name.
            limit: jobs per page.
            cursor: from the page before; None starts.

        Raises:
            InvalidOption: the limit, a status or the cursor is none.
        """
        if limit < 1:
            raise InvalidOption(f"limit must be at least 1, got {limit}")
        page = await self.find(Filter(queue, _statuses(status), task), limit, cursor)
        return JobPage([self._to_job(info) for info in page.jobs], page.cursor)

    async def queue_stats(self) -> Sequence[QueueStats]:
        """Counts by status for every known queue, ordered by name."""
        return await self.counts()

    async def list_workers(self) -> Sequence[WorkerInfo]:
        """The workers that are alive."""
        return await self.workers()

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job: at once while it waits, else by stopping it in its worker.

        Returns:
            False when it had finished before.

        Raises:
            JobNotFound: the store does not know it.
        """
        answer = await self.ask_cancel(job_id)
        if answer == "absent":
            raise JobNotFound(f"no job {job_id} is known to the store", job_id=job_id)
        return answer != "finished"

    async def retry_job(self, job_id: str) -> bool:
        """Put a failed, dead or cancelled job back to pending, with fresh retries.

        Returns:
            False when it is in another state.

        Raises:
            JobNotFound: the store does not know it.
        """
        (done,) = await self.requeue([job_id])
        if not done and await self.find_info(job_id) is None:
            raise JobNotFound(f"no job {job_id} is known to the store", job_id=job_id)
        return done

    async def delete_job(self, job_id: str) -> bool:
        """Remove a job or its record; False when it runs or is unknown."""
        (done,) = await self.delete([job_id])
        return done

    async def pause_queue(self, queue: str) -> None:
        """Stop handing out jobs of this queue; those that run go on."""
        await self.set_paused(queue, True)

    async def resume_queue(self, queue: str) -> None:
        """Undo ``pause_queue``."""
        await self.set_paused(queue, False)

    async def purge(self, queue: str, status: Status | Iterable[Status] | None = None) -> int:
        """Delete the jobs of a queue that do not run, waiting and finished, or only some.

        Returns:
            How many jobs were deleted.
        """
        return await self._delete_all(Filter(queue, _statuses(status)))

    async def prune(self, older_than: timedelta | float) -> int:
        """Delete the records of jobs that finished longer ago than this (seconds or timedelta).

        Returns:
            How many records were deleted.

        Raises:
            InvalidOption: the age is negative or no duration.
        """
        where = Filter(status=FINISHED, finished_for_ms=_milliseconds("older_than", older_than))
        return await self._delete_all(where)

    async def _delete_all(self, where: Filter) -> int:
        total = 0
        while deleted := await self.delete_where(where, PRUNE_BATCH):
            total += deleted
        return total

    # -- for job handles (``aioq._job.JobStore``) -------------------------------------------------

    async def find_info(self, job_id: str) -> JobInfo | None:
        """One record by id, as ``get``."""
        (info,) = await self.get([job_id])
        return info

    async def ask_cancel(self, job_id: str) -> CancelAnswer:
        """Cancel one job, as ``cancel``."""
        (answer,) = await self.cancel([job_id])
        return answer

    def _to_job(self, info: JobInfo) -> Job[Any]:
        return Job.from_info(info, reader=PlainReader(self._codec), store=self)


def check_loop(broker: BaseBroker) -> None:
    """Called before a broker is opened.

    Raises:
        ConfigurationError: it is called on trio, and this broker needs asyncio.
    """
    loop = current_loop()
    if not broker.capabilities.trio and not isinstance(loop, asyncio.AbstractEventLoop):
        raise ConfigurationError(
            f"{type(broker).__name__} needs asyncio and was opened on trio, where MemoryBroker "
            f"and SQLiteBroker work: start the program with asyncio.run"
        )


class JobPage(list[Job[Any]]):
    """A list of jobs, with the ``cursor`` of the next page (None at the end)."""

    def __init__(self, jobs: Iterable[Job[Any]], cursor: str | None) -> None:
        super().__init__(jobs)
        self.cursor = cursor


class PlainReader:
    """Reads arguments and results in the serializer's own types."""

    __slots__ = ("_codec",)

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def read_arguments(self, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self._codec.arguments(body)
        return tuple(args), kwargs

    def read_result(self, data: bytes, content_type: str | None) -> Any:
        return self._codec.loads(data, content_type)


def _milliseconds(name: str, duration: Any) -> int:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise InvalidOption(f"{name} must be a number, not negative, of seconds, got {duration!r}")
    return int(seconds * 1000)


def _statuses(
    status: Status | Collection[Status] | Iterable[Status] | None,
) -> frozenset[Status] | None:
    if status is None:
        return None
    chosen: frozenset[Any] = frozenset([status] if isinstance(status, str) else status)
    if unknown := chosen - set(STATUSES):
        raise InvalidOption(
            f"unknown status {sorted(unknown)[0]!r}; a status is one of {', '.join(STATUSES)}"
        )
    return chosen
