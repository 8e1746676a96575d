"""The tables: made once, by any number at once, and refused when they do not fit."""

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq_postgres import PostgresBroker
from aioq_postgres._migrations import KNOWN, STEPS

pytestmark = pytest.mark.anyio


async def test_opening_without_tables_names_the_command(dsn: str, schema: str) -> None:
    with pytest.raises(ConfigurationError, match="aioq migrate"):
        await PostgresBroker(dsn, schema=schema, timeout=30.0).open()


async def test_many_at_once_apply_each_step_once(dsn: str, schema: str) -> None:
    brokers = [PostgresBroker(dsn, schema=schema, timeout=30.0) for _ in range(6)]
    applied = await asyncio.gather(*(broker.migrate() for broker in brokers))
    assert sorted(name for names in applied for name in names) == sorted(map(str, STEPS))
    assert await brokers[0].migrate() == []
    assert await brokers[0].missing_migrations() == []
    async with brokers[0]:
        assert list(await brokers[0].counts()) == []


async def test_auto_migrate_makes_the_tables(dsn: str, schema: str) -> None:
    async with PostgresBroker(dsn, schema=schema, auto_migrate=True, timeout=30.0) as broker:
        assert list(await broker.counts()) == []


async def test_a_schema_may_have_any_name(dsn: str) -> None:
    async with PostgresBroker(
        dsn, schema='Büro "A"; now_ms() aioq.x', auto_migrate=True, timeout=30.0
    ) as broker:
        assert list(await broker.counts(["q"])) != []


async def test_newer_tables_are_refused_when_they_say_so(
    broker: PostgresBroker, dsn: str, schema: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    later = f'insert into "{schema}".migration (number, title, needs) values ($1, $2, $3)'
    await sql.execute(later, KNOWN + 1, "an expansion", 1)
    async with PostgresBroker(dsn, schema=schema, timeout=30.0):
        pass  # an expansion disturbs nobody
    await sql.execute(later, KNOWN + 2, "a contraction", KNOWN + 1)
    with pytest.raises(ConfigurationError, match="upgrade aioq-postgres"):
        await PostgresBroker(dsn, schema=schema, timeout=30.0).open()


async def test_a_migration_waits_for_the_lock_of_another(
    dsn: str, schema: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    broker = PostgresBroker(dsn, schema=schema, timeout=30.0)
    async with sql.transaction():
        await sql.execute("select pg_advisory_xact_lock($1, hashtext($2))", 0x61696F71, schema)
        waiting = asyncio.ensure_future(broker.migrate())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    assert len(await waiting) == len(STEPS)


async def test_looking_for_missing_steps_has_a_deadline(
    broker: PostgresBroker, dsn: str, schema: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with sql.transaction():
        await sql.execute(f'lock table "{schema}".migration')
        for look in (PostgresBroker.missing_migrations, PostgresBroker.migration_script):
            with pytest.raises(BrokerUnavailable, match="no answer"):
                await look(PostgresBroker(dsn, schema=schema, timeout=0.3))
    assert await broker.missing_migrations() == []


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "aioq", *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


async def test_the_command(dsn: str, sql: "asyncpg.Connection[asyncpg.Record]") -> None:
    name = f"d{uuid4().hex}"
    await sql.execute(f"create database {name}")
    url = f"{dsn.rpartition('/')[0]}/{name}"
    code, text = run("migrate", "--check", "--broker", url)
    assert (code, "missing: step 1" in text) == (1, True)
    code, script = run("migrate", "--sql", "--broker", url)
    assert code == 0
    assert "create table" in script
    code, text = run("migrate", "--broker", url)
    assert (code, "applied: step 1" in text) == (0, True)
    code, text = run("migrate", "--check", "--broker", url)
    assert (code, "up to date" in text) == (0, True)
    assert run("migrate", "--sql", "--broker", url) == (0, "")
    await sql.execute(f"drop database {name}")


async def test_the_script_makes_the_same_tables(
    dsn: str, schema: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    broker = PostgresBroker(dsn, schema=schema, timeout=30.0)
    await sql.execute(await broker.migration_script())
    assert await broker.missing_migrations() == []
    async with broker:
        assert list(await broker.counts()) == []


def test_the_command_refuses_other_stores(tmp_path: Path) -> None:
    code, text = run("migrate", "--broker", f"sqlite:///{tmp_path}/aioq.db")
    assert code == 1
    assert "needs no migration" in text
    assert run("migrate")[0] == 2
