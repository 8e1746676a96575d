"""Worker processes that are killed while the server restarts: the ledger stays right."""

import asyncio
import os
import signal
import time
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import asyncpg
import pytest
from acceptance.conftest import fleet as fleet
from acceptance.conftest import jobs as jobs
from acceptance.conftest import journal as journal
from acceptance.conftest import worker_url as worker_url
from acceptance.harness import HERE, Fleet, Journal, eventually
from servers.postgres import PostgresServer
from servers.proxy import Proxy

from aioq_postgres import PostgresBroker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

JOBS = int(os.environ.get("AIOQ_LEDGER_JOBS", "2000"))


@pytest.fixture
async def broker_url(frail: PostgresServer) -> str:
    """A database of its own on the server for faults."""
    name = f"d{uuid4().hex}"
    admin = await asyncpg.connect(frail.dsn())
    await admin.execute(f"create database {name}")
    await admin.close()
    await PostgresBroker(frail.dsn(name)).migrate()
    return frail.dsn(name)


async def test_the_ledger_after_kills_and_a_restart(
    jobs: ModuleType, fleet: Fleet, journal: Journal, frail: PostgresServer
) -> None:
    for _ in range(3):
        await fleet.start("-c", "20")
    sent = []
    for start in range(0, JOBS, 500):
        batch = [jobs.work.job(0.05) for _ in range(start, min(JOBS, start + 500))]
        sent += await jobs.app.enqueue_many(batch)
    broker = jobs.app.broker

    async def all_done() -> bool:
        try:
            (stats,) = await broker.counts(["default"])
        except ConnectionError:
            return False
        return stats.completed + stats.dead == JOBS

    async def kill() -> None:
        number = 0
        while True:
            await asyncio.sleep(2 if JOBS > 5000 else 0.7)
            alive = [worker for worker in fleet.workers if worker.process.poll() is None]
            alive[number % len(alive)].kill()
            await fleet.start("-c", "20")
            if number == 0:
                await asyncio.to_thread(frail.restart)
            number += 1

    killing = asyncio.ensure_future(kill())
    try:
        await eventually(lambda: len(journal.count("end")) >= JOBS * 0.9, 60)
    finally:
        killing.cancel()
        await asyncio.wait([killing])
    await eventually(all_done, 60)
    (stats,) = await broker.counts(["default"])
    assert stats.dead == 0, "a job that only stood beside others ended dead"
    assert set(journal.count("end")) == {job.id for job in sent}, "a job was lost"


async def test_a_worker_consumes_again_after_each_fault(
    jobs: ModuleType, fleet: Fleet, journal: Journal, frail: PostgresServer
) -> None:
    worker = await fleet.start()

    async def runs_again(within: float) -> None:
        began = time.monotonic()
        job = await jobs.work.enqueue()
        await eventually(lambda: bool(journal.of(job.id, "end")), within, worker.text)
        assert time.monotonic() - began < within

    await runs_again(5)
    await asyncio.to_thread(frail.restart)
    await runs_again(5)
    admin = await asyncpg.connect(frail.dsn())
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'aioq'"
    )
    await admin.close()
    await runs_again(5)
    frail.crash()
    await asyncio.sleep(1)
    await asyncio.to_thread(frail.start)
    await runs_again(5)
    assert worker.process.poll() is None, "a fault of the store ended the worker"
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0


async def test_an_enqueue_inside_a_transaction_starts_soon_after_its_commit(
    jobs: ModuleType, fleet: Fleet, journal: Journal, broker_url: str
) -> None:
    await fleet.start()
    connection = await asyncpg.connect(broker_url)
    transaction = connection.transaction()
    await transaction.start()
    never = await jobs.work.options(connection=connection).enqueue()
    await transaction.rollback()
    async with connection.transaction():
        soon = await jobs.work.options(connection=connection).enqueue()
    await eventually(lambda: bool(journal.of(soon.id)), 2.5)
    waking = PostgresBroker(broker_url, wake_on_commit=True)
    async with connection.transaction():
        at_once = jobs.work.job()
        await waking.enqueue_inside(connection, [at_once.to_record(1000)])
    await eventually(lambda: bool(journal.of(at_once.id)), 1)
    assert not journal.of(never.id)
    await connection.close()


async def test_a_worker_whose_connections_lead_nowhere_goes_on(
    jobs: ModuleType,
    fleet: Fleet,
    journal: Journal,
    frail: PostgresServer,
    proxy: Proxy,
    broker_url: str,
    tmp_path: Path,
) -> None:
    """Half-open for good, as behind a router that forgot them; and all bytes held for a while."""
    far = broker_url.replace(f":{frail.port}/", f":{proxy.port}/")
    folder = tmp_path / "far"
    folder.mkdir()
    env = {**os.environ, "AIOQ_BROKER_URL": far, "PYTHONPATH": str(HERE)}
    away = Fleet(env, folder)
    try:
        worker = await away.start()
        await asyncio.to_thread(proxy.forget)
        job = await jobs.work.enqueue()
        await eventually(lambda: bool(journal.of(job.id, "end")), 10, worker.text)
        await asyncio.to_thread(proxy.hold)
        later = await jobs.work.enqueue()
        await asyncio.sleep(3)
        await asyncio.to_thread(proxy.release)
        await eventually(lambda: bool(journal.of(later.id, "end")), 5, worker.text)
        assert worker.process.poll() is None
    finally:
        away.close()
