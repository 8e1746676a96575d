"""``RedisBroker``: the contract on Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from aioq.errors import AioqError, BrokerUnavailable, ConfigurationError
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
from aioq_redis._address import Address
from aioq_redis._claim import Haul
from aioq_redis._enqueue import added, enqueue_calls
from aioq_redis._errors import packing
from aioq_redis._keys import Keys
from aioq_redis._lease import RedisLeaseClient
from aioq_redis._listing import place_of
from aioq_redis._renewal import Renewal
from aioq_redis._session import Session
from aioq_redis._settings import Settings
from aioq_redis._settle import SettleBatch
from aioq_redis._store import Call
from aioq_redis._topology import Topology
from aioq_redis._wakeup import Appetites, wake_ups

__all__ = ["RedisBroker"]

_CANCELLED: dict[str, CancelAnswer] = {
    "c": "cancelled",
    "r": "asked",
    "f": "finished",
    "u": "absent",
}


class RedisBroker(BaseBroker):
    """Keeps jobs in Redis 6.2 or newer, or Valkey; one server or a cluster, which it finds out.

    May be used from several event loops, each of which opens it.

    Args:
        url: ``redis://user:password@host:port/db``, ``rediss://`` for TLS, ``unix:///path``. A
            cluster may be given several servers, ``redis://a:6379,b:6379``. The query gives options
            of redis-py: ``?ssl_ca_certs=...``.
        namespace: begins all keys, which keeps apart apps that share a server.
        result_ttl: seconds for which the record of a completed job is kept when its task does not
            say so.
        max_records: most records per queue of completed jobs without a saved result; the newest.
        keep_failed: seconds for which failed, cancelled and dead jobs are kept.
        max_failed: most of these per queue; the newest.
        durability: when an enqueue counts as done. ``"server"``: when Redis has it, which is as
            durable as Redis is configured. ``"fsync"``: when it is in the append-only file on disk
            (Redis 7.2 with ``appendfsync everysec`` or ``always``; any other server is refused).
            ``"replicated"``: when a replica has it as well.
        socket_timeout: seconds a call, with its wait for a connection, or a new connection may
            take; 0.1 to 60. A blocking call may take 4 s more.
        max_connections: most connections per server and event loop for calls. A worker has three
            more, for work, for cancels and for leases (in a cluster one for work per slot of its
            queues, one for leases per server), and whoever waits for jobs one.
        allow_eviction: accept a server that deletes keys when it is full.
        max_payload: see ``BaseBroker``.
        max_crashes: see ``BaseBroker``.
        options: what redis-py's connections take besides: ``username``, ``password``,
            ``credential_provider``, ``ssl_ca_certs``, ``ssl_certfile``, ``client_name``, ...

    Raises:
        InvalidOption: an option has an impossible value.
    """

    capabilities = Capabilities(transactional_batches=False, namespaces=True)

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        *,
        namespace: str = DEFAULT_NAMESPACE,
        result_ttl: float = 3600,
        max_records: int = 10_000,
        keep_failed: float = 7 * 86_400,
        max_failed: int = 100_000,
        durability: Literal["server", "fsync", "replicated"] = "server",
        socket_timeout: float = 5.0,
        max_connections: int = 16,
        allow_eviction: bool = False,
        max_payload: int = 1_048_576,
        max_crashes: int = 3,
        _clock_offset: Callable[[], int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(max_payload=max_payload, max_crashes=max_crashes)
        self._settings = Settings.read(
            url,
            options,
            result_ttl=result_ttl,
            max_records=max_records,
            keep_failed=keep_failed,
            max_failed=max_failed,
            durability=durability,
            socket_timeout=socket_timeout,
            max_connections=max_connections,
            allow_eviction=allow_eviction,
            offset=_clock_offset,
        )
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, Session] = WeakKeyDictionary()
        self._appetites = Appetites()
        self._served: dict[str, None] = {}
        """Queues this process claims from or looks after."""
        self.use_namespace(namespace)

    @property
    def url(self) -> str:
        return self._settings.shown

    def use_namespace(self, name: str) -> None:
        if self._sessions and name != self.namespace:
            raise ConfigurationError(f"{self.url} is open: its namespace can no longer be chosen")
        super().use_namespace(name)
        self._keys = Keys(name)
        self._topology = Topology(self._settings.server.seeds, self._keys)

    # -- open and close ----------------------------------------------------------------------------

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        if loop in self._sessions:
            return
        session = await Session.open(self._settings, self._keys, self._topology)
        if self._sessions.setdefault(loop, session) is not session:
            await session.close()  # another task was faster

    async def close(self) -> None:
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _session(self) -> Session:
        session = self._sessions.get(asyncio.get_running_loop())
        if session is None:
            raise BrokerUnavailable(
                f"{self.url} is not open in this event loop: use 'async with broker', or "
                f"broker.open()"
            )
        return session

    # -- in ----------------------------------------------------------------------------------------

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        session = self._session()
        calls = enqueue_calls(session.scripts.enqueue, jobs, producer, numbers)
        for call in calls:
            assert call.queue is not None
            await session.registry.enter(call.queue)
        replies = await session.store.run_all(calls, self._settings.confirm)
        return added(jobs, calls, replies)

    # -- out ---------------------------------------------------------------------------------------

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
        session = self._session()
        self._served.update(dict.fromkeys(queues))
        haul = Haul(limit, worker, lease_ms, max_bytes, quarantined)
        away: set[Address] = set()
        for group in session.store.groups(queues):
            server = session.store.server_of(group[0])
            if server in away:
                continue  # to wait for each of its slots would use up the leases of the others
            try:
                reply = await session.store.run_group(session.scripts.claim, group, haul.args())
            except AioqError as exc:
                haul.failed(exc)
                if isinstance(exc, BrokerUnavailable):
                    away.add(server)
            else:
                haul.read(group, reply)
        claimed = haul.result()
        self._appetites.claimed(worker, filled=haul.filled)
        return claimed

    def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        return wake_ups(self._session().store, self._appetites, worker, free, self.url)

    # -- ends --------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        session = self._session()
        answers: list[Settled] = ["stale"] * len(settlements)
        batches = SettleBatch.by_queue(settlements, self._settings.kept)
        calls = [
            Call(
                session.scripts.settle,
                queue,
                batch.args(),
                [self._keys.result(queue, raw) for raw in batch.results],
            )
            for queue, batch in batches.items()
        ]
        with packing():
            replies = await session.store.run_all(calls)
        for batch, reply in zip(batches.values(), replies, strict=True):
            batch.read(reply, answers)
        return answers

    async def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        session = self._session()
        renewal = Renewal(tokens, tuple(self._served))
        queues = renewal.queues
        calls = [
            Call(session.scripts.renew, queue, renewal.args(queue, lease_ms)) for queue in queues
        ]
        for queue, reply in zip(queues, await session.store.run_all(calls), strict=True):
            renewal.read(queue, reply)
        return renewal.result()

    def for_lease_thread(self) -> LeaseClient:
        session = next(iter(self._sessions.values()), None)
        if session is None:
            raise BrokerUnavailable(
                f"{self.url} is not open: use 'async with broker', or broker.open()"
            )
        return RedisLeaseClient(
            self._settings,
            self._keys,
            self._topology,
            session.scripts.renew,
            lambda: tuple(self._served),
        )

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        session = self._session()
        self._served.update(dict.fromkeys(queues))
        done = [0, 0, 0, 0]  # promoted, rescued, died, trimmed
        more = False
        kept = self._settings.kept
        failure: AioqError | None = None
        away: set[Address] = set()
        for queue in queues:
            server = session.store.server_of(queue)
            if server in away:
                continue
            left = (budget - done[0], budget - done[1], budget - done[3])
            args = [lease_ms, *left, self.max_crashes]
            args += [kept.other_ms, kept.other, kept.completed]
            try:
                *figures, used_up = await session.store.run(session.scripts.upkeep, queue, args)
            except AioqError as exc:
                failure = exc  # the other queues are looked after all the same
                if isinstance(exc, BrokerUnavailable):
                    away.add(server)
                continue
            done = [total + figure for total, figure in zip(done, figures, strict=True)]
            more = more or used_up == 1
        if failure is not None:
            raise failure
        promoted, rescued, died, trimmed = done
        return Upkeep(promoted, rescued, died, trimmed, more)

    # -- by id and by filter -----------------------------------------------------------------------

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobInfo | None]:
        return await self._session().finder.get(job_ids)

    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        return await self._session().finder.counts(queues)

    async def wait_finished(self, job_id: str) -> JobInfo | None:
        return await self._session().waiting.finished(job_id)

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[CancelAnswer]:
        session, keep = self._session(), self._settings.kept.other_ms
        letters = await session.finder.where_they_are(
            session.scripts.cancel,
            job_ids,
            args=lambda queue: (keep, self._keys.of(queue, "cancel")),
        )
        return [_CANCELLED[letters.get(place, "u")] for place in range(len(job_ids))]

    async def requeue(self, job_ids: Sequence[str]) -> Sequence[bool]:
        session = self._session()
        letters = await session.finder.where_they_are(session.scripts.requeue, job_ids)
        return [letters.get(place) == "y" for place in range(len(job_ids))]

    async def delete(self, job_ids: Sequence[str]) -> Sequence[bool]:
        session = self._session()
        letters = await session.finder.where_they_are(session.scripts.delete, job_ids, results=True)
        return [letters.get(place) == "y" for place in range(len(job_ids))]

    async def find(self, where: Filter, limit: int, cursor: str | None = None) -> Page:
        below = None if cursor is None else place_of(cursor)
        with packing():
            return await self._session().listing.page(where, limit, below)

    async def delete_where(self, where: Filter, limit: int) -> int:
        return await self._session().listing.delete(where, limit)

    async def count_where(self, where: Filter) -> int:
        return await self._session().listing.count(where)

    async def set_paused(self, queue: str, paused: bool) -> None:
        session = self._session()
        await session.store.run(session.scripts.pause, queue, [int(paused)])
        if paused:
            await session.registry.enter(queue)

    # -- workers -----------------------------------------------------------------------------------

    async def beat(self, worker: WorkerInfo) -> None:
        await self._session().registry.beat(worker)

    async def forget(self, worker_id: str) -> None:
        await self._session().registry.forget(worker_id)

    async def workers(self) -> Sequence[WorkerInfo]:
        return await self._session().registry.workers()
