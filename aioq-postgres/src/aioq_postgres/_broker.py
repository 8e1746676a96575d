"""``PostgresBroker``: the contract of every broker on a PostgreSQL database."""

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Concatenate, ParamSpec, TypeVar

from aioq.errors import BrokerError, ConfigurationError, InvalidOption
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
from aioq_postgres import _look as look
from aioq_postgres import _manage as manage
from aioq_postgres import _migrate as migration
from aioq_postgres import _upkeep as keeping
from aioq_postgres._claim import claim
from aioq_postgres._connect import Connection, Server, Ssl
from aioq_postgres._enqueue import enqueue
from aioq_postgres._errors import hoping_for_rights
from aioq_postgres._hints import listen
from aioq_postgres._inside import enqueue_inside, enqueue_inside_sync
from aioq_postgres._lease import PostgresLeaseClient
from aioq_postgres._local import Local
from aioq_postgres._rows import find_id
from aioq_postgres._settle import Ended, settle
from aioq_postgres._sql import NOW, Texts

__all__ = ["PostgresBroker"]

T = TypeVar("T")
P = ParamSpec("P")

SCHEMA = "aioq"
LONG_LOOK = 30.0
"""Seconds for queries over many rows, listings and counts, where ``timeout`` is not longer."""
FOR_EVER_MS = 2**53
"""The store counts in 64 bits, of which an instant takes some."""
FOLD_EVERY = 16
PER_JOB = 0.001
"""Seconds that each job of a large enqueue adds to its deadline."""
_inherited: list[object] = []
"""What a forked child has of its parent's connections: neither used nor let go."""


class PostgresBroker(BaseBroker):
    """Keeps jobs in a PostgreSQL database, in a schema of their own.

    An answer is given after the commit. Runs on asyncio, from any number of event loops and
    processes; each loop has its own few connections. Behind a pooler in transaction mode pass
    ``statement_cache_size=0`` and, to be woken at once instead of polling, a ``direct_dsn``.

    Args:
        dsn: ``postgresql://user:password@host:port/database``, with several hosts if need be, and
            with options that asyncpg knows (``sslmode``, ``target_session_attrs``) and settings of
            the server (``application_name``) after a question mark.
        schema: the schema of the tables; a namespace has one of its own: ``shop`` is ``aioq_shop``.
        namespace: keeps apart apps that share a database.
        min_connections: made by ``open``, for each event loop.
        max_connections: most connections of an event loop; a worker has two more, for its leases
            and its hints.
        direct_dsn: leads to the server past a pooler; for LISTEN and migrations.
        statement_cache_size: prepared statements per connection; 0 behind a pooler.
        ssl: an ``ssl.SSLContext`` or what else ``asyncpg.connect(ssl=...)`` takes; None leaves it
            to the DSN.
        timeout: seconds after which a call is given up and its connection dropped.
        keep_finished: seconds after which the record of a finished job is removed, unless it holds
            a saved result, which stays until it is deleted.
        auto_migrate: create or update the tables in ``open``, for development.
        fast_claims: claims do not wait for the disk (``synchronous_commit=off``). A server that
            crashes may forget the last of them: those jobs are ready again.
        wake_on_commit: jobs stored in a transaction of yours wake a worker as that commits, by a
            notification inside it, which makes all commits with notifications of the cluster wait
            for each other. Otherwise workers find them within 2 seconds.
        max_payload: largest size in bytes of a job's arguments or saved result.
        max_crashes: see ``BaseBroker``.

    Raises:
        ConfigurationError: the DSN is no URL of PostgreSQL, or asyncpg does not know an option.
        InvalidOption: an option is out of range.
    """

    capabilities = Capabilities(namespaces=True, max_enqueue=100_000)
    clock_sql: ClassVar[str] = NOW
    """The store's clock, in milliseconds; a test can put another expression in its place."""

    def __init__(
        self,
        dsn: str = "postgresql://localhost/app",
        *,
        schema: str = SCHEMA,
        namespace: str = DEFAULT_NAMESPACE,
        min_connections: int = 1,
        max_connections: int = 4,
        direct_dsn: str | None = None,
        statement_cache_size: int = 100,
        ssl: Ssl = None,
        timeout: float = 5.0,
        keep_finished: float = 7 * 86_400,
        auto_migrate: bool = False,
        fast_claims: bool = True,
        wake_on_commit: bool = False,
        max_payload: int = 1_048_576,
        max_crashes: int = 3,
    ) -> None:
        super().__init__(max_payload=max_payload, max_crashes=max_crashes)
        if not 0 <= min_connections <= max_connections or max_connections < 1:
            raise InvalidOption(
                f"max_connections must be at least 1 and min_connections between 0 and that, got "
                f"{max_connections} and {min_connections}"
            )
        if statement_cache_size < 0:
            raise InvalidOption(
                f"statement_cache_size must be 0 or more, got {statement_cache_size}"
            )
        for name, value, least in (("timeout", timeout, 0.1), ("keep_finished", keep_finished, 0)):
            if not (math.isfinite(value) and value >= least):
                raise InvalidOption(
                    f"{name} must be a number of seconds, at least {least:g}, got {value!r}"
                )
        self._server = Server(dsn, ssl, statement_cache_size, timeout)
        self._direct = self._server if direct_dsn is None else self._server.at(direct_dsn)
        self._pooled = statement_cache_size == 0 and direct_dsn is None
        self._schema = schema
        self._sizes = (min_connections, max_connections)
        self._timeout = timeout
        self._long = max(timeout, LONG_LOOK)
        self._keep_ms = min(int(keep_finished * 1000), FOR_EVER_MS)
        self._auto_migrate = auto_migrate
        self._fast = fast_claims
        self._wake_on_commit = wake_on_commit
        self._rounds = 0
        self._unfolded = False
        self._locals: dict[asyncio.AbstractEventLoop, Local] = {}
        self._pid = os.getpid()
        self.use_namespace(namespace)

    @property
    def url(self) -> str:
        return self._server.where

    def use_namespace(self, name: str) -> None:
        if self._locals and name != self.namespace:
            raise ConfigurationError(f"{self.url} is open: its namespace can no longer be chosen")
        super().use_namespace(name)
        own = name == DEFAULT_NAMESPACE
        self._texts = Texts(self._schema if own else f"{self._schema}_{name}", self.clock_sql)

    # -- open and closed --------------------------------------------------------------------------

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            # closing them, or letting them go, would disturb the parent
            _inherited.append(self._locals)
            self._locals, self._pid = {}, os.getpid()
        for ended in [other for other in list(self._locals) if other.is_closed()]:
            self._locals.pop(ended, None)
        if loop in self._locals:
            return
        if self._auto_migrate:
            await self.migrate()
        local = Local(self._server, self._sizes[1], self._texts)
        namespace = self.namespace if self._schema == SCHEMA else None
        try:
            await local.pool.fill(max(self._sizes[0], 1))
            await local.pool.call(
                partial(migration.check, texts=self._texts, where=self.url, namespace=namespace),
                self._timeout,
            )
        except BaseException:
            local.pool.terminate()
            raise
        if self._locals.setdefault(loop, local) is not local:
            local.pool.terminate()  # another task was faster

    async def close(self) -> None:
        if self._pid == os.getpid():
            local = self._locals.pop(asyncio.get_running_loop(), None)
            if local is not None:
                await local.close()

    def _local(self) -> Local:
        """What belongs to the running event loop."""
        local = self._locals.get(asyncio.get_running_loop())
        if local is None:
            raise BrokerError(
                f"{self.url} is not open in this event loop: use 'async with broker', or "
                f"broker.open()"
            )
        if self._pid != os.getpid():
            raise BrokerError(f"{self.url} was opened before a fork: open it again in this process")
        return local

    async def _call(
        self,
        operation: Callable[Concatenate[Connection, Texts, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._within(self._timeout, operation, *args, **kwargs)

    async def _within(
        self,
        seconds: float,
        operation: Callable[Concatenate[Connection, Texts, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        texts = self._texts

        async def run(connection: Connection) -> T:
            return await operation(connection, texts, *args, **kwargs)

        return await self._local().pool.call(run, seconds)

    # -- the life of a job ------------------------------------------------------------------------

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        local = self._local()
        seconds = self._timeout + PER_JOB * len(jobs)
        added, work = await self._within(seconds, enqueue, jobs, producer, numbers)
        local.ringer.work(work)
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
        local = self._local()
        operation = partial(
            claim,
            texts=self._texts,
            queues=queues,
            limit=limit,
            worker=worker,
            lease_ms=lease_ms,
            max_bytes=max_bytes,
            quarantined=quarantined,
            fast=self._fast,
            marks=local.marks,
        )

        async def give_back(claimed: Claimed) -> None:
            # Whoever claimed these was cancelled: no need to let their leases run out.
            releases = [Settlement(job.token, "release") for job in claimed.jobs]
            if releases:
                with contextlib.suppress(BrokerError):
                    await self._settle(local, releases)

        with hoping_for_rights():
            return await local.pool.call(operation, self._timeout, give_back)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        return await self._settle(self._local(), settlements)

    async def _settle(self, local: Local, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        operation = partial(settle, texts=self._texts, settlements=settlements)
        with hoping_for_rights():
            ended: Ended = await local.pool.call(operation, self._timeout)
        local.ringer.work(ended.work)
        self._unfolded = True
        return ended.answers

    async def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        with hoping_for_rights():
            return await self._call(keeping.renew, tokens, lease_ms)

    def for_lease_thread(self) -> LeaseClient:
        return PostgresLeaseClient(self._server, self._texts)

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        local = self._local()
        with hoping_for_rights():
            kept = await self._call(
                keeping.upkeep, queues, lease_ms, budget, self.max_crashes, self._keep_ms
            )
        local.ringer.work(kept.rescued)
        # This is also the poll of idle workers: what came without a bell is found here.
        for ear in local.ears:
            ear.ring(kept.waiting)
        self._rounds += 1
        if self._unfolded and self._rounds >= FOLD_EVERY:
            self._unfolded = False
            if await self._call(keeping.fold):
                self._unfolded = True
            else:
                self._rounds = 0
        return kept.done

    # -- looking ----------------------------------------------------------------------------------

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobInfo | None]:
        return await self._call(look.get, job_ids)

    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        return await self._within(self._long, look.counts, queues)

    async def find(self, where: Filter, limit: int, cursor: str | None = None) -> Page:
        return await self._within(self._long, look.find, where, limit, cursor)

    async def workers(self) -> Sequence[WorkerInfo]:
        return await self._call(manage.workers)

    async def wait_finished(self, job_id: str) -> JobInfo | None:
        raw = find_id(job_id)
        if raw is None:
            return None
        await self._local().waiters.ended(raw)
        (info,) = await self.get([job_id])
        return info

    def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        server = None if self._pooled else self._direct
        return listen(server, self._texts.schema, worker, free, self._local().ears)

    # -- by hand ----------------------------------------------------------------------------------

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[CancelAnswer]:
        local = self._local()
        answers, tokens = await self._call(manage.cancel, job_ids)
        local.ringer.cancel(tokens)
        return answers

    async def requeue(self, job_ids: Sequence[str]) -> Sequence[bool]:
        local = self._local()
        done, work = await self._call(manage.requeue, job_ids)
        local.ringer.work(work)
        return done

    async def delete(self, job_ids: Sequence[str]) -> Sequence[bool]:
        return await self._call(manage.delete, job_ids)

    async def delete_where(self, where: Filter, limit: int) -> int:
        return await self._within(self._long, look.delete_where, where, limit)

    async def count_where(self, where: Filter) -> int:
        return await self._within(self._long, look.count, where)

    async def set_paused(self, queue: str, paused: bool) -> None:
        local = self._local()
        await self._call(manage.set_paused, queue, paused)
        if not paused:
            local.ringer.work([queue])

    async def beat(self, worker: WorkerInfo) -> None:
        with hoping_for_rights():
            await self._call(manage.beat, worker)

    async def forget(self, worker_id: str) -> None:
        await self._call(manage.forget, worker_id)

    # -- inside the caller's own transaction ------------------------------------------------------

    async def enqueue_inside(self, connection: object, jobs: Sequence[NewJob]) -> Sequence[Added]:
        """As ``BaseBroker.enqueue_inside``.

        ``connection`` is one of asyncpg, an ``AsyncConnection`` of psycopg, or an
        ``AsyncConnection`` or ``AsyncSession`` of SQLAlchemy.
        """
        return await enqueue_inside(self._texts, connection, jobs, wake=self._wake_on_commit)

    def enqueue_inside_sync(self, connection: object, jobs: Sequence[NewJob]) -> Sequence[Added]:
        """``enqueue_inside`` on a ``Connection`` of psycopg, or a ``Connection`` or ``Session`` of
        SQLAlchemy.
        """
        return enqueue_inside_sync(self._texts, connection, jobs, wake=self._wake_on_commit)

    # -- the tables -------------------------------------------------------------------------------

    async def migrate(self) -> list[str]:
        """Create the tables or bring them up to date; names the steps it has applied.

        Raises:
            BrokerUnavailable: the server is out of reach, or others hold locks for too long.
            ConfigurationError: this user may not create tables.
        """
        return [str(step) for step in await migration.migrate(self._direct, self._texts)]

    async def missing_migrations(self) -> list[str]:
        """The steps that ``migrate`` would apply.

        Raises:
            BrokerUnavailable: the server is out of reach, or others hold locks for too long.
            ConfigurationError: this user may not look.
        """
        return [str(step) for step in await migration.look(self._direct, self._texts)]

    async def migration_script(self) -> str:
        """The missing steps as SQL; raises as ``missing_migrations``."""
        steps = await migration.look(self._direct, self._texts)
        return migration.script(self._texts, steps) if steps else ""
