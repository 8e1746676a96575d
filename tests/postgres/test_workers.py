"""Real worker processes on PostgreSQL: what they ask when idle, and when they find committed jobs.

Servers that are killed and networks that cut are in ``acceptance/faults``, for every store.
"""

import re
import signal
import time
from collections.abc import AsyncIterator
from types import ModuleType
from uuid import uuid4

import anyio
import asyncpg
import pytest
from acceptance.conftest import fleet as fleet
from acceptance.conftest import jobs as jobs
from acceptance.conftest import journal as journal
from acceptance.conftest import worker_url as worker_url
from acceptance.harness import Fleet, Journal, eventually
from servers.postgres import PostgresServer

from aioq_postgres import PostgresBroker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Sql = "asyncpg.Connection[asyncpg.Record]"
WATCHED = 12.0
SAID = "has 'aioq migrate' been run on it?"


@pytest.fixture
async def broker_url(frail: PostgresServer) -> str:
    """A database of its own on the server for faults."""
    name = f"d{uuid4().hex}"
    admin = await asyncpg.connect(frail.dsn())
    await admin.execute(f"create database {name}")
    await admin.close()
    await PostgresBroker(frail.dsn(name), timeout=30.0).migrate()
    return frail.dsn(name)


@pytest.fixture
async def own(broker_url: str) -> AsyncIterator[Sql]:
    """A connection to the database of this test."""
    connection = await asyncpg.connect(broker_url)
    yield connection
    await connection.close()


async def test_a_worker_whose_backends_are_terminated_consumes_again(
    jobs: ModuleType, fleet: Fleet, journal: Journal, own: Sql
) -> None:
    worker = await fleet.start(lease=30.0)
    first = await jobs.work.enqueue()
    await eventually(lambda: bool(journal.of(first.id, "end")), 30, worker.text)
    ended = await own.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'aioq' and datname = current_database()"
    )
    assert len(ended) >= 2
    again = await jobs.work.enqueue()
    took = await eventually(lambda: bool(journal.of(again.id, "end")), 30, worker.text)
    print(f"consumed again after {took:.2f} s")
    assert worker.process.poll() is None, "a fault of the store ended the worker"
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) == 0


async def test_a_worker_whose_tables_are_dropped_says_so_and_waits_for_them(
    jobs: ModuleType, fleet: Fleet, journal: Journal, broker_url: str, own: Sql
) -> None:
    worker = await fleet.start(lease=30.0)
    first = await jobs.work.enqueue()
    await first.finished(timeout=60)
    await own.execute("drop schema aioq cascade")
    # One loop tries again several times until a second one says so, too.
    await eventually(lambda: worker.text().count(SAID) >= 2, 60, worker.text)
    await PostgresBroker(broker_url, timeout=30.0).migrate()
    again = await jobs.work.enqueue()
    await eventually(lambda: bool(journal.of(again.id, "end")), 60, worker.text)
    assert worker.process.poll() is None, "a fault of the store ended the worker"
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert worker.text().count(SAID) <= 3, "each loop says it once"


async def test_an_enqueue_inside_a_transaction_starts_soon_after_its_commit(
    jobs: ModuleType, fleet: Fleet, journal: Journal, broker_url: str, own: Sql
) -> None:
    await fleet.start()
    transaction = own.transaction()
    await transaction.start()
    never = await jobs.work.options(connection=own).enqueue()
    await transaction.rollback()
    async with own.transaction():
        soon = await jobs.work.options(connection=own).enqueue()
    found = await eventually(lambda: bool(journal.of(soon.id)), 30)
    waking = PostgresBroker(broker_url, wake_on_commit=True)
    async with own.transaction():
        at_once = jobs.work.job()
        await waking.enqueue_inside(own, [at_once.to_record(1000)])
    woken = await eventually(lambda: bool(journal.of(at_once.id)), 30)
    print(f"found by a poll after {found:.2f} s, woken after {woken:.3f} s")
    assert not journal.of(never.id)


async def test_idle_workers_ask_once_a_second_at_most_and_hold_no_locks(
    fleet: Fleet, frail: PostgresServer, broker_url: str
) -> None:
    """Counted by the server, which logs every statement of this database."""
    name = broker_url.rpartition("/")[2]
    admin = await asyncpg.connect(frail.dsn())
    await admin.execute(f"alter database {name} set log_statement = 'all'")
    log = frail.folder / "log"
    began = log.stat().st_size

    def logged(start: int) -> list[str]:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
        return re.findall(r"LOG:  (?:execute [^:]*|statement):(.*(?:\n\s.*)*)", text)

    for _ in range(2):
        await fleet.start(lease=30.0)
    await eventually(lambda: sum("LISTEN" in each for each in logged(began)) == 2, 30)
    began = log.stat().st_size
    watched = time.monotonic()
    held = 0
    with anyio.move_on_after(WATCHED):
        while True:
            # Who has locks, and then who of them has rested since before that was asked.
            asked_at, holders = await admin.fetchrow(
                "select statement_timestamp(), array_agg(pid) from pg_locks"
            )
            held += await admin.fetchval(
                "select count(*) from pg_stat_activity where pid = any($1) and datname = $2 "
                "and application_name = 'aioq' and state <> 'active' and state_change < $3",
                *(holders, name, asked_at),
            )
            await anyio.sleep(0.2)
    await admin.close()
    asked = logged(began)
    watched = time.monotonic() - watched
    print(f"{len(asked) / watched / 2:.2f} statements a second and worker")
    # Two more each: what comes every 2, 5, 10 and 15 s may fall together at the edges.
    assert 4 <= len(asked) <= 2 * (watched + 2), "".join(asked)
    assert held == 0, "locks were held between statements"
