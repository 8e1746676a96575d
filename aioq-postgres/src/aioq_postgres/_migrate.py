"""Bringing the tables up to date, and checking that they are."""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq_postgres._connect import Connection, Server
from aioq_postgres._errors import no_tables, too_slow, translate
from aioq_postgres._migrations import KNOWN, NEEDED, STEPS, Step
from aioq_postgres._sql import MIGRATION_LOCK, Texts

__all__ = ["check", "look", "migrate", "script"]

LOCK_TIMEOUT: Final = "3s"
PATIENCE: Final = 60.0
"""Seconds for which a migration waits for others, or for locks, in all."""

_TABLE: Final = """
create table if not exists aioq.migration (
    number     integer     not null primary key,
    title      text        not null,
    needs      integer     not null,
    applied_at timestamptz not null default clock_timestamp()
)
"""
_NOTE: Final = "insert into aioq.migration (number, title, needs) values ({}, '{}', {})"
_FIRST: Final = "server_version_num"
OLDEST: Final = 130_000


async def check(connection: Connection, texts: Texts, where: str, namespace: str | None) -> None:
    """Refuse a server or a schema on which this code does not work.

    ``namespace`` is None when the URL alone does not lead to the schema.

    Raises:
        ConfigurationError: the message says what to do.
    """
    version = int(await connection.fetchval(f"show {_FIRST}"))
    if version < OLDEST:
        raise ConfigurationError(
            f"{where} runs PostgreSQL {version // 10_000}: aioq needs 13 or newer"
        )
    if await connection.fetchval("select pg_is_in_recovery()"):
        raise ConfigurationError(
            f"{where} is a read-only standby: name the primary, or add "
            f"target_session_attrs=read-write to the DSN"
        )
    try:
        ((last, needs),) = await connection.fetch(
            texts("select max(number), max(needs) from aioq.migration")
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise no_tables(where, texts.schema, namespace) from None
    except asyncpg.InsufficientPrivilegeError as exc:
        raise translate(exc, where, opening=True) from exc
    if last is None:
        raise no_tables(where, texts.schema, namespace)
    if last < NEEDED:
        raise ConfigurationError(
            f"{where}: the aioq tables are too old (step {last}, this aioq-postgres needs "
            f"{NEEDED}): run 'aioq migrate'"
        )
    if needs > KNOWN:
        raise ConfigurationError(
            f"{where}: the aioq tables belong to a newer aioq-postgres (it needs step {needs}, "
            f"this one knows {KNOWN}): upgrade aioq-postgres"
        )


async def look(server: Server, texts: Texts) -> Sequence[Step]:
    """The steps that have not been applied.

    Raises:
        BrokerUnavailable: no answer in time, as while others hold locks.
        ConfigurationError: this user may not look.
    """
    connection = await server.connect(opening=True)
    try:
        async with asyncio.timeout(server.patience):
            return await _missing(connection, texts)
    except TimeoutError:
        raise too_slow(server.where, server.patience) from None
    except Exception as exc:
        raise translate(exc, server.where, opening=True) from exc
    finally:
        connection.terminate()


async def _missing(connection: Connection, texts: Texts) -> Sequence[Step]:
    try:
        rows = await connection.fetch(texts("select number from aioq.migration"))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return STEPS
    applied = {row[0] for row in rows}
    return [step for step in STEPS if step.number not in applied]


def script(texts: Texts, steps: Sequence[Step]) -> str:
    """The steps as a script for psql, for those who apply changes by hand."""
    parts = [f"create schema if not exists {texts.quoted};", f"{texts(_TABLE).strip()};"]
    for step in steps:
        note = f"{texts(_note(step))};"
        parts.append(f"-- {step}\nbegin;\n{texts(step.sql).strip()}\n\n{note}\ncommit;")
    return "\n\n".join(parts) + "\n"


async def migrate(server: Server, texts: Texts) -> list[Step]:
    """Apply what is missing, one transaction for each step; any number of callers at once.

    Returns:
        The steps that this call has applied.

    Raises:
        BrokerUnavailable: others held a lock for too long; nothing is half done.
        ConfigurationError: this user may not create the tables.
    """
    connection = await server.connect(opening=True)
    try:
        async with asyncio.timeout(PATIENCE):
            return await _migrate(connection, texts)
    except TimeoutError:
        raise BrokerUnavailable(
            f"{server.where}: the migration could not get its locks within {PATIENCE:g} s: try "
            f"again, and look for long transactions"
        ) from None
    except asyncpg.InsufficientPrivilegeError as exc:
        raise ConfigurationError(
            f"{server.where}: this user may not create aioq's tables ({exc}): run "
            f"'aioq migrate --sql' and let an administrator apply its output"
        ) from exc
    except Exception as exc:
        raise translate(exc, server.where, opening=True) from exc
    finally:
        connection.terminate()


async def _migrate(connection: Connection, texts: Texts) -> list[Step]:
    done: list[Step] = []
    while True:
        try:
            step = await _next(connection, texts)
        except (
            asyncpg.LockNotAvailableError,
            asyncpg.DeadlockDetectedError,
            asyncpg.UniqueViolationError,
        ):
            # A short lock time-out, then again: waiting would hold up everybody behind us.
            await asyncio.sleep(0.2)
            continue
        if step is None:
            return done
        done.append(step)


async def _next(connection: Connection, texts: Texts) -> Step | None:
    """Apply the first missing step under the lock; None when there is none."""
    async with connection.transaction():
        await _lock(connection, texts)
        exists = await connection.fetchval(
            "select exists (select from pg_namespace where nspname = $1)", texts.schema
        )
        if not exists:
            await connection.execute(f"create schema {texts.quoted}")
        if await connection.fetchval("select to_regclass($1)", texts("aioq.migration")) is None:
            await connection.execute(texts(_TABLE))
        steps = await _missing(connection, texts)
        if not steps:
            return None
        step = steps[0]
        await connection.execute(texts(step.sql))
        await connection.execute(texts(_note(step)))
        return step


async def _lock(connection: Connection, texts: Texts) -> None:
    await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
    await connection.execute(
        "select pg_advisory_xact_lock($1, hashtext($2))", MIGRATION_LOCK, texts.schema
    )


def _note(step: Step) -> str:
    return _NOTE.format(step.number, step.title, step.needs)
