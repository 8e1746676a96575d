"""``MemoryBroker``: the store in this process, behind the contract of every broker."""

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import anyio
import anyio.lowlevel

from aioq._broker import BaseBroker
from aioq._clock import wall_ms
from aioq._contract import LeaseClient
from aioq._loop import call_soon, current_loop
from aioq._memory._store import Store
from aioq._namespace import DEFAULT_NAMESPACE
from aioq._records import (
    FINISHED,
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
from aioq.errors import InvalidOption

__all__ = ["MemoryBroker"]

WORKER_TTL_MS = 60_000


class MemoryBroker(BaseBroker):
    """Keeps jobs in this process: nothing outlives it, nothing else sees them.

    For tests (give it a ``clock`` you control) and for one process that enqueues and works, from
    any of its threads and event loops.

    Args:
        url: ``memory://``, so that it can be chosen like any other broker.
        namespace: see ``BaseBroker``; each broker object is a store of its own anyway.
        clock: returns the time in milliseconds since the epoch; None takes the host's clock.
        keep_finished: seconds after which a record without a saved result is dropped.
        max_records: most records without a saved result that are kept.
        max_payload: largest size in bytes of a job's arguments or saved result.
        max_crashes: see ``BaseBroker``.
    """

    capabilities = Capabilities(
        durable=False,
        multi_process=False,
        server_time=False,
        namespaces=True,
        trio=True,
        max_enqueue=1_000_000,
    )

    def __init__(
        self,
        url: str = "memory://",
        *,
        namespace: str = DEFAULT_NAMESPACE,
        clock: Callable[[], int] | None = None,
        keep_finished: float = 7 * 86_400,
        max_records: int = 10_000,
        max_payload: int = 1_048_576,
        max_crashes: int = 3,
    ) -> None:
        super().__init__(max_payload=max_payload, max_crashes=max_crashes)
        if url.rstrip("/") != "memory:":
            raise InvalidOption(f"the memory broker's URL is memory://, got {url!r}")
        self.use_namespace(namespace)
        self._now = clock or wall_ms
        self._store = Store(
            self._now,
            max_crashes=max_crashes,
            keep_finished_ms=int(keep_finished * 1000),
            max_records=max_records,
        )
        self._listeners: list[_Listener] = []
        self._waiters: dict[str, list[_Waiter]] = {}
        self._ears = threading.Lock()
        """For listeners and waiters, which come from several threads."""
        self._workers: dict[str, tuple[WorkerInfo, int]] = {}

    @property
    def url(self) -> str:
        return "memory://"

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to let go of: the jobs live as long as this object."""

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        added = self._store.enqueue(jobs, producer, numbers)
        self._wake()
        await anyio.lowlevel.checkpoint()  # a caller that enqueues in a loop lets others run
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
        claimed = self._store.claim(queues, limit, worker, lease_ms, max_bytes, quarantined)
        if claimed.more:
            self._wake(besides=worker)
        return claimed

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        answers = self._store.settle(settlements)
        self._announce()
        if any(item.kind in ("retry", "snooze", "release") for item in settlements):
            self._wake()
        return answers

    async def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        return self._store.renew(tokens, lease_ms)

    def for_lease_thread(self) -> LeaseClient:
        return _MemoryLeaseClient(self._store)

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        done = self._store.upkeep(lease_ms, budget)
        self._announce()
        if done.promoted or done.rescued:
            self._wake()
        return done

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobInfo | None]:
        return self._store.get(job_ids)

    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        return self._store.counts(queues)

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[CancelAnswer]:
        answers = self._store.cancel(job_ids)
        self._announce()
        for _, token in answers:
            if token is not None:
                for listener in list(self._listeners):
                    listener.tell(Hint(cancel=token))
        return [answer for answer, _ in answers]

    async def requeue(self, job_ids: Sequence[str]) -> Sequence[bool]:
        done = self._store.requeue(job_ids)
        self._wake()
        return done

    async def find(self, where: Filter, limit: int, cursor: str | None = None) -> Page:
        return self._store.find(where, limit, cursor)

    async def delete(self, job_ids: Sequence[str]) -> Sequence[bool]:
        done = self._store.delete(job_ids)
        self._announce()
        return done

    async def delete_where(self, where: Filter, limit: int) -> int:
        done = self._store.delete_where(where, limit)
        self._announce()
        return done

    async def count_where(self, where: Filter) -> int:
        return self._store.count_where(where)

    async def set_paused(self, queue: str, paused: bool) -> None:
        self._store.set_paused(queue, paused)
        if not paused:
            self._wake()

    async def beat(self, worker: WorkerInfo) -> None:
        self._workers[worker.id] = (worker, self._now())

    async def forget(self, worker_id: str) -> None:
        self._workers.pop(worker_id, None)

    async def workers(self) -> Sequence[WorkerInfo]:
        now = self._now()
        return [
            worker._replace(seen_ago=(now - seen) / 1000)
            for worker, seen in list(self._workers.values())  # other threads' workers beat
            if now - seen < WORKER_TTL_MS
        ]

    async def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        listener = _Listener(worker.id, free)
        with self._ears:
            self._listeners.append(listener)
        try:
            while True:
                for hint in await listener.next():
                    yield hint
        finally:
            with self._ears:
                self._listeners.remove(listener)

    async def wait_finished(self, job_id: str) -> JobInfo | None:
        waiter = _Waiter()
        with self._ears:
            self._waiters.setdefault(job_id, []).append(waiter)
        try:
            while True:
                (info,) = self._store.get([job_id])
                if info is None or info.status in FINISHED:
                    return info
                await waiter.wait()
        finally:
            self._stop_waiting(job_id, waiter)

    def _stop_waiting(self, job_id: str, waiter: "_Waiter") -> None:
        with self._ears:
            waiting = self._waiters[job_id]
            waiting.remove(waiter)
            if not waiting:
                del self._waiters[job_id]

    def _announce(self) -> None:
        for job_id in self._store.take_finished():
            if job_id in self._waiters:
                with self._ears:
                    waiting = list(self._waiters.get(job_id, ()))
                for waiter in waiting:
                    waiter.wake()

    def _wake(self, besides: str | None = None) -> None:
        """Tell one worker that has room, and put it last for the next time."""
        with self._ears:
            for listener in self._listeners:
                if listener.worker_id != besides and listener.free() > 0:
                    listener.tell(Hint())
                    self._listeners.remove(listener)
                    self._listeners.append(listener)
                    return


class _Waiter:
    """Somebody who waits in an event loop, woken from any thread."""

    def __init__(self) -> None:
        self._loop = current_loop()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Until the next ``wake``, or the one since the last time."""
        await self._event.wait()
        self._event = anyio.Event()

    def wake(self) -> None:
        if self._loop is current_loop():
            self._event.set()
        else:
            call_soon(self._loop, self._wake)

    def _wake(self) -> None:
        self._event.set()


class _Listener(_Waiter):
    """What one worker has not heard yet."""

    def __init__(self, worker_id: str, free: Callable[[], int]) -> None:
        super().__init__()
        self.worker_id = worker_id
        self.free = free
        self._pending: dict[Hint, None] = {}

    def tell(self, hint: Hint) -> None:
        if self._loop is current_loop():
            self._hear(hint)
        else:
            call_soon(self._loop, self._hear, hint)

    def _hear(self, hint: Hint) -> None:
        self._pending[hint] = None
        self._event.set()

    async def next(self) -> list[Hint]:
        await self.wait()
        hints = list(self._pending)
        self._pending.clear()
        return hints


class _MemoryLeaseClient(LeaseClient):
    def __init__(self, store: Store) -> None:
        self._store = store

    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        return self._store.renew(tokens, lease_ms)

    def close(self) -> None:
        """Nothing to free."""
