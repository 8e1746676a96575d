"""``RedisBroker``: the contract on Redis."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from redis.exceptions import ResponseError

from aioq.errors import BrokerUnavailable, ConfigurationError, InvalidOption
from aioq.plugins import (
    DEFAULT_NAMESPACE,
    Added,
    BaseBroker,
    CancelAnswer,
    Capabilities,
    Claimed,
    Delivery,
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
from aioq_redis._address import Address, Server
from aioq_redis._check import Facts, check
from aioq_redis._enqueue import added, enqueue_calls
from aioq_redis._errors import packing, translated
from aioq_redis._keys import Keys
from aioq_redis._lease import RedisLeaseClient
from aioq_redis._look import Finder, place_of
from aioq_redis._packing import delivery, pack_id, split_token
from aioq_redis._scripts import Dialect, Scripts
from aioq_redis._settle import Kept, Renewal, SettleBatch
from aioq_redis._store import Call, Confirm, Store
from aioq_redis._topology import Topology
from aioq_redis._waiting import Waiting
from aioq_redis._wakeup import Appetites, wake_ups

__all__ = ["RedisBroker"]

_OURS = (
    "socket_timeout",
    "socket_connect_timeout",
    "max_connections",
    "retry",
    "retry_on_timeout",
    "retry_on_error",
    "health_check_interval",
    "decode_responses",
    "protocol",
)
"""Options of redis-py that this broker decides, wherever they come from."""
_CANCELLED: dict[str, CancelAnswer] = {
    "c": "cancelled",
    "r": "asked",
    "f": "finished",
    "u": "absent",
}
_WORKER_TTL_MS = 60_000
_CONFIRM: dict[str, Confirm | None] = {
    "server": None,
    "fsync": Confirm((b"WAITAOF", 1, 0), "its append-only file on disk"),
    "replicated": Confirm((b"WAIT", 1), "a replica"),
}


@dataclass(frozen=True)
class _Session:
    """An open broker in one event loop."""

    store: Store
    scripts: Scripts
    finder: Finder
    waiting: Waiting


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
        socket_timeout: seconds a call, or a new connection, may take; 0.1 to 60. A blocking call
            may take 4 s more.
        max_connections: most connections per server and event loop for calls; three more serve
            wake-ups, waiting and leases.
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
        if not 0.1 <= socket_timeout <= 60:
            raise InvalidOption(f"socket_timeout must be 0.1 to 60 seconds, got {socket_timeout}")
        limits = {
            "result_ttl": result_ttl,
            "max_records": max_records,
            "keep_failed": keep_failed,
            "max_failed": max_failed,
            "max_connections": max_connections,
        }
        for name, limit in limits.items():
            if limit < 1:
                raise InvalidOption(f"{name} must be at least 1, got {limit}")
        if durability not in _CONFIRM:
            raise InvalidOption(f"durability is one of {', '.join(_CONFIRM)}, got {durability!r}")
        server = Server.parse(url, options)
        kept_options = {name: value for name, value in server.options.items() if name not in _OURS}
        self._server = Server(server.seeds, server.shown, server.scheme, kept_options)
        self._kept = Kept(int(result_ttl * 1000), max_records, int(keep_failed * 1000), max_failed)
        self._durability = durability
        self._confirm = _CONFIRM[durability]
        self._within = socket_timeout
        self._most = max_connections
        self._allow_eviction = allow_eviction
        # A test's way to move the server's clock: see ``Dialect.shifted``.
        self._offset = _clock_offset
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = WeakKeyDictionary()
        self._appetites = Appetites()
        self._served: dict[str, None] = {}
        """Queues this process claims from or looks after."""
        self.use_namespace(namespace)

    @property
    def url(self) -> str:
        return self._server.shown

    def use_namespace(self, name: str) -> None:
        if self._sessions and name != self.namespace:
            raise ConfigurationError(f"{self.url} is open: its namespace can no longer be chosen")
        super().use_namespace(name)
        self._keys = Keys(name)
        self._topology = Topology(self._server.seeds, self._keys)

    # -- open and close ----------------------------------------------------------------------------

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        if loop in self._sessions:
            return
        store = Store(
            self._server, self._keys, self._topology, self._most, self._within, self._offset
        )
        try:
            facts = await self._meet(store)
        except BaseException:
            await store.close()
            raise
        scripts = Scripts(Dialect(header=facts.version >= (7, 0), shifted=self._offset is not None))
        finder = Finder(store, scripts)
        session = _Session(store, scripts, finder, Waiting(store, finder, self.url))
        known = self._sessions.setdefault(loop, session)
        if known is not session:
            await store.close()  # another task was faster

    async def _meet(self, store: Store) -> Facts:
        """Ask the first server that answers what it is, and in a cluster who holds what."""
        reason: Exception | None = None
        for address in self._topology.seeds:
            try:
                with translated(self.url):
                    info: bytes = await store.ask(address, "INFO")
                    facts = Facts.read(info.decode("utf-8", "replace"))
                    check(
                        facts,
                        self.url,
                        allow_eviction=self._allow_eviction,
                        durability=self._durability,
                        fsync=await self._fsync(store, address),
                    )
                    if facts.clustered:
                        slots = await store.ask(address, "CLUSTER", "SLOTS")
                        self._topology.learn(slots, address)
                    return facts
            except BrokerUnavailable as exc:
                reason = exc
        raise BrokerUnavailable(str(reason)) from reason

    async def _fsync(self, store: Store, address: Address) -> str | None:
        """The server's ``appendfsync``, where it matters and the server tells."""
        if self._durability != "fsync":
            return None
        try:
            reply = await store.ask(address, "CONFIG", "GET", "appendfsync")
        except ResponseError:
            return None  # a managed server may not tell
        return reply[1].decode() if len(reply) == 2 else None

    async def close(self) -> None:
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.waiting.close()
            await session.store.close()

    def _session(self) -> _Session:
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
            await session.finder.register(call.queue)
        replies = await session.store.run_all(calls, self._confirm)
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
        owner = pack_id(worker)
        jobs: list[Delivery] = []
        more = False
        soonest: int | None = None
        for group in session.store.groups(queues):
            args = (limit, max_bytes, int(quarantined), owner, lease_ms, len(jobs))
            reply = await session.store.run_group(session.scripts.claim, group, args)
            taken = _deliveries(group, reply)
            jobs += taken
            max_bytes -= sum(len(job.body) for job in taken)
            quarantined = quarantined and not any(job.quarantined for job in taken)
            more = more or reply[1] == 1
            if reply[2] >= 0:
                soonest = reply[2] if soonest is None else min(soonest, reply[2])
        self._appetites.claimed(worker, filled=len(jobs) >= limit or more)
        return Claimed(jobs, more, soonest)

    async def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        async for hint in wake_ups(self._session().store, self._appetites, worker, free, self.url):
            yield hint

    # -- ends --------------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        session = self._session()
        answers: list[Settled] = ["stale"] * len(settlements)
        batches: dict[str, SettleBatch] = {}
        for place, item in enumerate(settlements):
            parts = split_token(item.token)
            if parts is not None:
                lease, queue = parts
                batch = batches.get(queue)
                if batch is None:
                    batch = batches[queue] = SettleBatch()
                batch.add(place, lease, item, self._kept.completed_ms)
        calls = [
            Call(
                session.scripts.settle,
                queue,
                batch.args(self._kept),
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
            self._server,
            self._keys,
            self._topology,
            session.scripts.renew,
            lambda: tuple(self._served),
            self._within,
            self._offset,
        )

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        session = self._session()
        self._served.update(dict.fromkeys(queues))
        done = [0, 0, 0, 0]  # promoted, rescued, died, trimmed
        more = False
        kept = self._kept
        for queue in queues:
            left = (budget - done[0], budget - done[1], budget - done[3])
            args = [lease_ms, *left, self.max_crashes]
            args += [kept.other_ms, kept.other, kept.completed]
            *figures, used_up = await session.store.run(session.scripts.upkeep, queue, args)
            done = [total + figure for total, figure in zip(done, figures, strict=True)]
            more = more or used_up == 1
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
        session = self._session()
        letters = await session.finder.where_they_are(
            session.scripts.cancel,
            job_ids,
            lambda queue: (self._kept.other_ms, self._keys.of(queue, "cancel")),
        )
        return [_CANCELLED[letters.get(place, "u")] for place in range(len(job_ids))]

    async def requeue(self, job_ids: Sequence[str]) -> Sequence[bool]:
        session = self._session()
        letters = await session.finder.where_they_are(
            session.scripts.requeue, job_ids, lambda _: ()
        )
        return [letters.get(place) == "y" for place in range(len(job_ids))]

    async def find(self, where: Filter, limit: int, cursor: str | None = None) -> Page:
        below = None if cursor is None else place_of(cursor)
        with packing():
            return await self._session().finder.page(where, limit, below)

    async def delete(self, job_ids: Sequence[str]) -> Sequence[bool]:
        session = self._session()
        letters = await session.finder.where_they_are(session.scripts.delete, job_ids, lambda _: ())
        return [letters.get(place) == "y" for place in range(len(job_ids))]

    async def delete_where(self, where: Filter, limit: int) -> int:
        ids = await self._session().finder.some(where, limit)
        deleted = 0
        for start in range(0, len(ids), self.capabilities.max_batch):
            deleted += sum(await self.delete(ids[start : start + self.capabilities.max_batch]))
        return deleted

    async def count_where(self, where: Filter) -> int:
        return await self._session().finder.count(where)

    async def set_paused(self, queue: str, paused: bool) -> None:
        session = self._session()
        await session.finder.register(queue)
        await session.store.run(session.scripts.pause, queue, [int(paused)])

    # -- workers -----------------------------------------------------------------------------------

    async def beat(self, worker: WorkerInfo) -> None:
        session = self._session()
        description = json.dumps(worker._asdict())
        await session.store.run(session.scripts.beat, None, [worker.id, description])

    async def forget(self, worker_id: str) -> None:
        store = self._session().store
        await store.command(None, b"HDEL", self._keys.workers, worker_id)
        await store.command(None, b"ZREM", self._keys.beats, worker_id)

    async def workers(self) -> Sequence[WorkerInfo]:
        session = self._session()
        reply = await session.store.run(session.scripts.workers, None, [_WORKER_TTL_MS])
        found: list[WorkerInfo] = []
        for ago, description in zip(reply[::2], reply[1::2], strict=True):
            fields = json.loads(description)
            fields |= {"queues": tuple(fields["queues"]), "seen_ago": ago / 1000}
            found.append(WorkerInfo(**fields))
        return found


def _deliveries(queues: Sequence[str], reply: Sequence[Any]) -> list[Delivery]:
    jobs: list[Delivery] = []
    at = 3
    for queue in queues:
        end = at + 1 + 3 * reply[at]
        tail = queue.encode()
        jobs += [
            delivery(reply[place], reply[place + 1], reply[place + 2], queue, tail)
            for place in range(at + 1, end, 3)
        ]
        at = end
    return jobs
