"""``BrokerContract``: what every store promises.

A broker is only storage. It moves opaque jobs between the places *ready*, *quarantine*,
*scheduled*, *running* and *done*; each move is one atomic step in the store. Time policies,
serialisation, batching, middleware and retries live in the core. What must hold is spelled out in
docs/brokers.md and proved by ``aioq.testing.conformance``.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar

import anyio

from aioq._namespace import DEFAULT_NAMESPACE, check_namespace
from aioq._records import (
    FINISHED,
    MAX_BATCH,
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
    Token,
    Upkeep,
    WorkerInfo,
)
from aioq.errors import ConfigurationError, InvalidOption, NotSupported

__all__ = ["BrokerContract", "LeaseClient"]

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


class BrokerContract(ABC):
    """The half of ``BaseBroker`` that a broker writes."""

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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

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
