"""Enqueueing inside the caller's own transaction, on every kind of connection."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from aioq import Aarq, Context
from aioq.errors import ConfigurationError, JobExists, PayloadTooLarge
from aioq.plugins import Settlement
from aioq.testing.conformance._tools import worker_info
from aioq_postgres import PostgresBroker

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(broker: PostgresBroker) -> Aarq:
    app = Aarq(broker, plugins=False)

    @app.task(name="mail")
    async def mail(ctx: Context, to: str) -> None: ...

    return app


def driver(dsn: str, name: str) -> str:
    return dsn.replace("postgresql://", f"postgresql+{name}://", 1)


@contextlib.asynccontextmanager
async def on_asyncpg(dsn: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    yield connection, transaction.commit, transaction.rollback
    await connection.close()


@contextlib.asynccontextmanager
async def on_asyncpg_pool(dsn: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, pool.acquire() as proxy:
        transaction = proxy.transaction()
        await transaction.start()
        yield proxy, transaction.commit, transaction.rollback


@contextlib.asynccontextmanager
async def on_psycopg(dsn: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    connection = await psycopg.AsyncConnection.connect(dsn, row_factory=psycopg.rows.dict_row)
    yield connection, connection.commit, connection.rollback
    await connection.close()


@contextlib.asynccontextmanager
async def on_session(dsn: str, name: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    engine = create_async_engine(driver(dsn, name))
    async with AsyncSession(engine) as session:
        yield session, session.commit, session.rollback
    await engine.dispose()


@contextlib.asynccontextmanager
async def on_engine(dsn: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    engine = create_async_engine(driver(dsn, "asyncpg"))
    async with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    await engine.dispose()


ASYNC = {
    "asyncpg": on_asyncpg,
    "asyncpg pool": on_asyncpg_pool,
    "psycopg": on_psycopg,
    "AsyncSession on asyncpg": lambda dsn: on_session(dsn, "asyncpg"),
    "AsyncSession on psycopg": lambda dsn: on_session(dsn, "psycopg"),
    "AsyncConnection": on_engine,
}


@contextlib.contextmanager
def on_psycopg_sync(dsn: str) -> Iterator[tuple[Any, Any, Any]]:
    with psycopg.connect(dsn) as connection:
        yield connection, connection.commit, connection.rollback


@contextlib.contextmanager
def on_session_sync(dsn: str) -> Iterator[tuple[Any, Any, Any]]:
    engine = sqlalchemy.create_engine(driver(dsn, "psycopg"))
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@contextlib.contextmanager
def on_engine_sync(dsn: str) -> Iterator[tuple[Any, Any, Any]]:
    engine = sqlalchemy.create_engine(driver(dsn, "psycopg"))
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


SYNC = {"psycopg": on_psycopg_sync, "Session": on_session_sync, "Connection": on_engine_sync}


@pytest.mark.parametrize("kind", list(ASYNC))
async def test_the_job_comes_and_goes_with_the_transaction(
    app: Aarq, broker: PostgresBroker, dsn: str, kind: str
) -> None:
    mail = app.tasks["mail"]
    async with ASYNC[kind](dsn) as (connection, commit, rollback):
        lost = await mail.options(connection=connection).enqueue("nobody")
        await rollback()
    async with ASYNC[kind](dsn) as (connection, commit, rollback):
        kept = await mail.options(connection=connection).enqueue("ann")
        later = mail.options(delay=60, priority=2).job("bob")
        await app.enqueue_many([later, mail.job("cy")], connection=connection)
        assert await broker.get_job(kept.id) is None, "nothing was committed yet"
        await commit()
    assert await broker.get_job(lost.id) is None
    found = await mail.get_job(kept.id)
    assert found is not None
    assert (found.args, found.status, kept.status) == (("ann",), "pending", "pending")
    assert (await later.refresh()).status == "scheduled"
    assert later.priority == 2
    assert [stats.pending for stats in await broker.counts()] == [2]


@pytest.mark.parametrize("kind", list(SYNC))
async def test_without_an_event_loop(
    app: Aarq, broker: PostgresBroker, dsn: str, kind: str
) -> None:
    mail = app.tasks["mail"]

    def work() -> tuple[str, str]:
        with SYNC[kind](dsn) as (connection, _, rollback):
            lost = mail.options(connection=connection).enqueue_sync("nobody")
            rollback()
        with SYNC[kind](dsn) as (connection, commit, _):
            kept = mail.options(connection=connection).enqueue_sync("ann")
            commit()
        return lost.id, kept.id

    lost, kept = await asyncio.to_thread(work)
    assert await broker.get_job(lost) is None
    assert (await broker.get_job(kept)).status == "pending"


async def test_plain_code_inside_an_async_session(
    app: Aarq, broker: PostgresBroker, dsn: str
) -> None:
    mail = app.tasks["mail"]
    async with on_session(dsn, "asyncpg") as (session, commit, _):
        job = await session.run_sync(lambda s: mail.options(connection=s).enqueue_sync("ann"))
        await commit()
    assert (await broker.get_job(job.id)).status == "pending"


async def test_a_broker_that_is_not_open_needs_no_connection_of_its_own(
    broker: PostgresBroker, dsn: str, schema: str
) -> None:
    app = Aarq(PostgresBroker("postgresql://127.0.0.1:1/nowhere", schema=schema), plugins=False)

    @app.task(name="mail")
    async def mail(ctx: Context) -> None: ...

    async with on_asyncpg(dsn) as (connection, commit, _):
        job = await mail.options(connection=connection).enqueue()
        await commit()
    assert (await broker.get_job(job.id)).status == "pending"


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg", "AsyncSession on psycopg"])
async def test_signs_that_drivers_read_in_a_schema_name(dsn: str, kind: str) -> None:
    broker = PostgresBroker(dsn, schema=f"50% :a $1 {uuid4()}", auto_migrate=True)
    app = Aarq(broker, plugins=False)

    @app.task(name="mail")
    async def mail(ctx: Context) -> None: ...

    async with broker, ASYNC[kind](dsn) as (connection, commit, _):
        job = await mail.options(connection=connection, job_id=str(uuid4())).enqueue()
        await commit()
        assert (await broker.get_job(job.id)).status == "pending"


async def test_codecs_that_the_caller_has_set_do_not_matter(
    app: Aarq, broker: PostgresBroker, dsn: str
) -> None:
    async with on_asyncpg(dsn) as (connection, commit, _):
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(
                kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
            )
        job = await app.tasks["mail"].options(connection=connection).enqueue("ann")
        await commit()
    assert (await broker.get_job(job.id)).status == "pending"


async def test_a_given_id_is_refused_while_known(
    app: Aarq, broker: PostgresBroker, dsn: str
) -> None:
    given = app.tasks["mail"].options(job_id=str(uuid4()))
    first = await given.enqueue("ann")
    async with on_asyncpg(dsn) as (connection, commit, _):
        with pytest.raises(JobExists):
            await given.options(connection=connection).enqueue("ann")
        await commit()
    (delivery,) = (await broker.claim(["default"], 9, worker=str(uuid4()), lease_ms=9999)).jobs
    await broker.settle([Settlement(delivery.token, "completed")])
    async with on_psycopg(dsn) as (connection, commit, _):
        with pytest.raises(JobExists):
            await given.options(connection=connection).enqueue("ann")
        await commit()
    assert (await first.refresh()).status == "completed"
    assert (await broker.counts(["default"]))[0].pending == 0


async def test_mistakes_are_named(app: Aarq, broker: PostgresBroker, dsn: str) -> None:
    mail = app.tasks["mail"]
    with pytest.raises(ConfigurationError, match="give a connection of asyncpg"):
        await mail.options(connection=object()).enqueue("ann")
    with (
        on_session_sync(dsn) as (session, _, _),
        pytest.raises(ConfigurationError, match=r"without an event loop: use .*enqueue_sync"),
    ):
        await mail.options(connection=session).enqueue("ann")
    async with on_asyncpg(dsn) as (connection, _, _):
        with pytest.raises(ConfigurationError, match="is asynchronous: use 'await"):
            mail.options(connection=connection).enqueue_sync("ann")
        with pytest.raises(PayloadTooLarge):
            await mail.options(connection=connection).enqueue("x" * 2_000_000)


async def test_a_committed_job_wakes_a_worker_when_asked_to(
    open_broker: Callable[..., Any], broker: PostgresBroker, app: Aarq, dsn: str
) -> None:
    waking = await open_broker(dsn, wake_on_commit=True)
    hints = broker.hints(worker_info(None, "default"), lambda: 1)
    async with asyncio.timeout(30):
        # What is rung before somebody listens goes unheard, and on a slow machine that takes long.
        while (await anext(hints)).queue != "default":
            async with on_asyncpg(dsn) as (connection, commit, _):
                job = app.tasks["mail"].job("ann").to_record(999)
                await waking.enqueue_inside(connection, [job])
                await commit()
    await hints.aclose()  # type: ignore[attr-defined]


async def test_a_committed_job_is_seen_by_the_next_upkeep(
    app: Aarq, broker: PostgresBroker, dsn: str
) -> None:
    hints = broker.hints(worker_info(None, "default"), lambda: 1)
    async with asyncio.timeout(30):
        await anext(hints)
    async with on_asyncpg(dsn) as (connection, commit, _):
        await app.tasks["mail"].options(connection=connection).enqueue("ann")
        await commit()
    await broker.upkeep(["default", "other"], lease_ms=30_000)
    async with asyncio.timeout(30):
        while (await anext(hints)).queue != "default":
            continue
    await broker.set_paused("default", True)
    await broker.upkeep(["default"], lease_ms=30_000)
    (ear,) = broker._local().ears
    assert "default" not in ear.work, "a paused queue was rung for"
    await hints.aclose()  # type: ignore[attr-defined]
