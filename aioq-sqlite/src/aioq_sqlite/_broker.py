"""``SQLiteBroker``: the contract of every broker on one database file."""

import asyncio
import math
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar, cast

from aioq.errors import BrokerError, BrokerUnavailable, ConfigurationError, InvalidOption
from aioq.plugins import (
    DEFAULT_NAMESPACE,
    Added,
    BaseBroker,
    CancelAnswer,
    Capabilities,
    Claimed,
    Filter,
    Hint,
    JobInfo,
    LeaseClient,
    Loop,
    NewJob,
    Page,
    QueueStats,
    Renewed,
    Settled,
    Settlement,
    Token,
    Upkeep,
    WorkerInfo,
    current_loop,
)
from aioq_sqlite import _look as look
from aioq_sqlite import _manage as manage
from aioq_sqlite import _upkeep as keeping
from aioq_sqlite._calls import Call, ThreadCall, awaited
from aioq_sqlite._claim import claim
from aioq_sqlite._engine import PATIENCE, Engine
from aioq_sqlite._enqueue import enqueue
from aioq_sqlite._hints import listen
from aioq_sqlite._reader import Watch
from aioq_sqlite._rows import find_id
from aioq_sqlite._settle import settle
from aioq_sqlite._store import Synchronous
from aioq_sqlite._tx import Tx
from aioq_sqlite._url import in_namespace, parse, show

__all__ = ["SQLiteBroker"]

T = TypeVar("T")


class SQLiteBroker(BaseBroker):
    """Keeps jobs in one SQLite file, for any number of processes of one host.

    An answer is given after the commit, so what was answered survives the death of the process,
    and with ``synchronous="FULL"`` also a power cut. One thread of each process writes and one
    reads; the event loop waits for neither. Runs on asyncio and on trio, also on several loops at
    once; the last of them to close it closes the file.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute/path.db`` or a path. The directory
            must exist; the file is made by ``open``. Each namespace has a file of its own beside
            it: ``aioq.db`` in the namespace ``shop`` is ``aioq.shop.db``.
        namespace: keeps apart apps that were given the same URL.
        synchronous: ``"FULL"`` writes every commit through to the disk. ``"NORMAL"`` is faster; a
            power cut (not a crash of the process) may then take the last commits back.
        keep_finished: seconds after which the record of a finished job is removed, unless it holds
            a saved result, which stays until it is deleted.
        max_payload: largest size in bytes of a job's arguments or saved result.
        max_crashes: see ``BaseBroker``.
        clock: gives the time in milliseconds since the epoch; for tests. None takes the host's.

    Raises:
        ConfigurationError: the URL names no file.
        InvalidOption: an option is out of range.
    """

    capabilities = Capabilities(server_time=False, namespaces=True, trio=True, max_enqueue=100_000)

    def __init__(
        self,
        url: "str | os.PathLike[str]" = "sqlite:///aioq.db",
        *,
        namespace: str = DEFAULT_NAMESPACE,
        synchronous: Synchronous = "FULL",
        keep_finished: float = 7 * 86_400,
        max_payload: int = 1_048_576,
        max_crashes: int = 3,
        clock: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(max_payload=max_payload, max_crashes=max_crashes)
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidOption(f"synchronous must be 'FULL' or 'NORMAL', got {synchronous!r}")
        if not (math.isfinite(keep_finished) and keep_finished >= 0):
            raise InvalidOption(
                f"keep_finished must be a number of seconds, 0 or more, got {keep_finished!r}"
            )
        self._path = self._named = parse(url)
        self._synchronous: Synchronous = synchronous
        self._keep_ms = int(keep_finished * 1000)
        self._clock = clock or _host_clock
        self._engine: Engine | None = None
        self.use_namespace(namespace)
        self._open_in: weakref.WeakSet[Loop] = weakref.WeakSet()

    @property
    def url(self) -> str:
        return show(self._path)

    def use_namespace(self, name: str) -> None:
        if self._engine is not None and name != self.namespace:
            raise ConfigurationError(f"{self.url} is open: its namespace can no longer be chosen")
        super().use_namespace(name)
        self._path = in_namespace(self._named, name)

    # -- open and closed --------------------------------------------------------------------------

    async def exists(self) -> bool:
        # An empty file would be given its tables.
        try:
            return self._path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # `open` says what is wrong

    async def open(self) -> None:
        with _swapping:
            engine = self._engine
            if engine is not None and engine.forked:
                engine.keep_in_child()
                engine = None
            if engine is None:
                self._open_in.clear()
                engine = self._engine = Engine(self._path, self._synchronous, self._clock)
                # A broker that is dropped without `close` leaves no thread behind.
                self._finalizer = weakref.finalize(self, engine.stop)
                self._finalizer.atexit = False
            finalizer = self._finalizer
            # From now on: who closes it elsewhere must not take it away.
            self._open_in.add(current_loop())
        try:
            await engine.ready()
        except Exception:
            with _swapping:
                if self._engine is engine:
                    self._engine = None
            finalizer()
            raise

    async def close(self) -> None:
        with _swapping:
            self._open_in.discard(current_loop())
            if not all(map(_is_over, self._open_in)):
                return
            engine, self._engine = self._engine, None
            if engine is None:
                return
            self._finalizer.detach()
        if engine.forked:
            engine.keep_in_child()
        else:
            await engine.close()

    def _opened(self) -> Engine:
        engine = self._engine
        if engine is None:
            raise BrokerError(f"{self.url} is not open: use 'async with broker', or broker.open()")
        if engine.forked:
            raise BrokerError(f"{self.url} was opened before a fork: open it again in this process")
        return engine

    async def _write(
        self, operation: Callable[[Tx], T], undo: Callable[[T], Awaitable[None]] | None = None
    ) -> T:
        writer = self._opened().writer
        call = awaited(operation)
        writer.put(call)
        return cast("T", await call.outcome(PATIENCE, undo))

    async def _read(self, operation: Callable[[Tx], T]) -> T:
        reader = self._opened().reader
        call = awaited(operation)
        reader.put(call)
        return cast("T", await call.result(PATIENCE))

    def _put(self, call: Call) -> None:
        self._opened().writer.put(call)

    # -- the life of a job ------------------------------------------------------------------------

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        return await self._write(partial(enqueue, jobs=jobs, producer=producer, numbers=numbers))

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
        return await self._write(
            partial(
                claim,
                queues=queues,
                limit=limit,
                worker=worker,
                lease_ms=lease_ms,
                max_bytes=max_bytes,
                quarantined=quarantined,
            ),
            self._give_back,
        )

    async def _give_back(self, claimed: Claimed) -> None:
        """Whoever claimed these was cancelled: no need to let their leases run out."""
        releases = [Settlement(job.token, "release") for job in claimed.jobs]
        if releases and self._engine is not None:
            with suppress(BrokerUnavailable):  # then they run out
                # by nobody's call, so that it is applied even when this task is cancelled again
                self._put(ThreadCall(partial(settle, settlements=releases)))
                await self._write(_nothing)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        return await self._write(partial(settle, settlements=settlements))

    async def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        return await self._write(partial(keeping.renew, tokens=tokens, lease_ms=lease_ms))

    def for_lease_thread(self) -> LeaseClient:
        return _SQLiteLeaseClient(self._put)

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        return await self._write(
            partial(
                keeping.upkeep,
                lease_ms=lease_ms,
                budget=budget,
                max_crashes=self.max_crashes,
                keep_ms=self._keep_ms,
            )
        )

    # -- looking ----------------------------------------------------------------------------------

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobInfo | None]:
        return await self._read(partial(look.get, job_ids=job_ids))

    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        return await self._read(partial(look.counts, queues=queues))

    async def find(self, where: Filter, limit: int, cursor: str | None = None) -> Page:
        return await self._read(partial(look.find, where=where, limit=limit, cursor=cursor))

    async def workers(self) -> Sequence[WorkerInfo]:
        return await self._read(manage.workers)

    async def wait_finished(self, job_id: str) -> JobInfo | None:
        raw = find_id(job_id)
        if raw is None:
            return None
        reader = self._opened().reader
        watch = awaited(Watch(raw))
        reader.put(watch)
        return cast("JobInfo | None", await watch.result())

    def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        engine = self._opened()
        return listen(engine.bells, engine.reader, worker, free)

    # -- by hand ----------------------------------------------------------------------------------

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[CancelAnswer]:
        return await self._write(partial(manage.cancel, job_ids=job_ids))

    async def requeue(self, job_ids: Sequence[str]) -> Sequence[bool]:
        return await self._write(partial(manage.requeue, job_ids=job_ids))

    async def delete(self, job_ids: Sequence[str]) -> Sequence[bool]:
        return await self._write(partial(manage.delete, job_ids=job_ids))

    async def delete_where(self, where: Filter, limit: int) -> int:
        # Searching may take long and is done without the lock; the writer checks each job again.
        found = await self._read(partial(look.matching, where=where, limit=limit))
        if not found:
            return 0
        return await self._write(partial(manage.delete_if, ids=found, where=where))

    async def count_where(self, where: Filter) -> int:
        return await self._read(partial(look.count, where=where))

    async def set_paused(self, queue: str, paused: bool) -> None:
        await self._write(partial(manage.set_paused, queue=queue, paused=paused))

    async def beat(self, worker: WorkerInfo) -> None:
        await self._write(partial(manage.beat, worker=worker))

    async def forget(self, worker_id: str) -> None:
        await self._write(partial(manage.forget, worker_id=worker_id))


_swapping = threading.Lock()
"""Held for the moment in which a broker takes or leaves an engine: loops in several threads may
open and close it at once. A fork waits, so that no child finds it held."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_swapping.acquire,
        after_in_parent=_swapping.release,
        after_in_child=_swapping.release,
    )


class _SQLiteLeaseClient(LeaseClient):
    """Hands renewals to the writer thread, where they join the next commit."""

    def __init__(self, put: Callable[[Call], None]) -> None:
        self._put = put

    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        call = ThreadCall(partial(keeping.renew, tokens=tokens, lease_ms=lease_ms))
        self._put(call)
        renewed: Renewed = call.result(lease_ms / 3000)
        return renewed

    def close(self) -> None:
        """Nothing to free: the connection is the broker's."""


def _is_over(loop: Loop) -> bool:
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def _nothing(tx: Tx) -> None:
    """Answered when all that was handed over before has been applied."""


def _host_clock() -> int:
    return time.time_ns() // 1_000_000
