"""Each error says what is wrong, where, and what to do, as far as the server tells."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from aioq.errors import (
    AioqError,
    BatchRejected,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    InvalidOption,
)
from aioq.plugins import Filter, NewJob
from aioq_postgres import PostgresBroker
from aioq_postgres._errors import too_slow, translate
from aioq_postgres._lease import PostgresLeaseClient
from aioq_postgres._migrate import check
from aioq_postgres._pool import Pool
from aioq_postgres._sql import Texts

pytestmark = pytest.mark.anyio

ID = "01234567-89ab-7def-8123-456789abcdef"
HERE = "postgresql://db.example/app"


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (
            asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"),
            BrokerUnavailable,
            "is read-only (cannot execute INSERT): is it a standby? Name the primary, or add "
            "target_session_attrs=read-write to the DSN",
        ),
        (
            asyncpg.InvalidSQLStatementNameError("no statement s1"),
            BrokerUnavailable,
            "has lost a prepared statement (no statement s1): behind a pooler pass "
            "statement_cache_size=0",
        ),
        (
            asyncpg.UndefinedTableError('relation "aioq.job" does not exist'),
            BrokerError,
            "relation \"aioq.job\" does not exist; has 'aioq migrate' been run on it?",
        ),
        (asyncpg.AdminShutdownError("going down"), BrokerUnavailable, "going down"),
        (asyncpg.DiskFullError("no space left"), BrokerUnavailable, "no space left"),
        (asyncpg.DeadlockDetectedError("deadlock detected"), BrokerUnavailable, "deadlock"),
        (
            asyncpg.NumericValueOutOfRangeError("out of range"),
            BatchRejected,
            "a value cannot be stored: out of range",
        ),
        (asyncpg.PostgresSyntaxError("syntax error\nline 2"), BrokerError, "syntax error"),
        (
            asyncpg.InterfaceError("connection is closed"),
            BrokerUnavailable,
            "the connection is unusable (connection is closed)",
        ),
        (TimeoutError(), BrokerUnavailable, "gave no answer in time"),
        (OverflowError("too large"), BatchRejected, "a value cannot be stored: too large"),
        (ConnectionResetError(), BrokerUnavailable, "cannot be reached: ConnectionResetError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_the_driver_raises(raised: Exception, kind: type[AioqError], sentence: str) -> None:
    told = translate(raised, HERE)
    assert type(told) is kind
    assert str(told).startswith(HERE)
    assert sentence in str(told)
    assert "\n" not in str(told)
    assert told.__cause__ is raised


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (asyncpg.InvalidPasswordError("wrong"), f"{HERE} refuses the password: wrong"),
        (
            asyncpg.InvalidAuthorizationSpecificationError("no pg_hba.conf entry"),
            f"{HERE} does not let this user in: no pg_hba.conf entry",
        ),
        (
            asyncpg.InvalidCatalogNameError("there is no app"),
            f"{HERE}: there is no app; create it, or name another one in the DSN",
        ),
        (asyncpg.ClientConfigurationError("bad sslmode"), f"{HERE}: bad sslmode"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_only_a_person_can_change(raised: Exception, sentence: str) -> None:
    told = translate(raised, HERE, opening=True)
    assert (type(told), str(told)) == (ConfigurationError, sentence)


def test_mistakes_of_the_program_stay_as_they_are() -> None:
    for mistake in (KeyError("x"), BrokerError("said already")):
        assert translate(mistake, HERE) is mistake


def test_a_deadline_is_named() -> None:
    assert str(too_slow(HERE, 2.5)) == f"{HERE} gave no answer within 2.5 s"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"min_connections": 12, "max_connections": 4},
            "max_connections must be at least 1 and min_connections between 0 and that, "
            "got 4 and 12",
        ),
        ({"statement_cache_size": -1}, "statement_cache_size must be 0 or more, got -1"),
        ({"timeout": 0}, "timeout must be a number of seconds, at least 0.1, got 0"),
        ({"schema": "pg_mine"}, "schema must be a name of 1 to "),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        PostgresBroker(**options)
    assert str(refused.value).startswith(sentence)


async def test_calls_on_a_broker_that_is_not_open() -> None:
    broker = PostgresBroker(HERE)
    with pytest.raises(BrokerError) as refused:
        await broker.counts()
    assert str(refused.value) == (
        f"{HERE} is not open in this event loop: use 'async with broker', or broker.open()"
    )


async def test_the_namespace_of_an_open_broker(broker: PostgresBroker) -> None:
    with pytest.raises(ConfigurationError, match="is open: its namespace can no longer be chosen"):
        broker.use_namespace("other")


async def test_ids_and_sizes_that_cannot_be_stored(
    broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq_postgres._enqueue.MOST_BYTES", 1000)
    for bad, sentence in (
        (NewJob("42", "q", "t", b"", b""), "'42' is not a UUID in its usual form"),
        (
            NewJob(ID, "q", "t", b"", b"x" * 1001),
            "the jobs of one call take more than 1,000 bytes: send them in several calls",
        ),
    ):
        with pytest.raises(BatchRejected) as refused:
            await broker.enqueue([bad], producer=b"producer", numbers={"q": 1})
        assert sentence in str(refused.value)


async def test_a_long_timeout_holds_for_listings_too() -> None:
    within: list[float] = []

    class Listing(PostgresBroker):
        async def _within(self, seconds, operation, *args, **kwargs):  # type: ignore[no-untyped-def]
            within.append(seconds)
            return 0

    for timeout in (1.0, 120.0):
        await Listing(HERE, timeout=timeout).count_where(Filter("q"))
    assert within == [30.0, 120.0]


class Old:
    """A connection to a server of another version."""

    def __init__(self, version: int) -> None:
        self.version = version

    async def fetchval(self, statement: str) -> int:
        return self.version


async def test_a_server_that_is_too_old() -> None:
    old: Any = Old(120_018)
    with pytest.raises(ConfigurationError) as refused:
        await check(old, Texts("aioq"), HERE, "aioq")
    assert str(refused.value) == f"{HERE} runs PostgreSQL 12: aioq needs 13 or newer"


async def test_tables_that_are_missing_or_too_old(
    broker: PostgresBroker, schema: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    def again() -> PostgresBroker:
        return PostgresBroker(broker._server.dsn, schema=schema, timeout=30.0)

    await sql.execute(f'update "{schema}".migration set number = number - 100')
    with pytest.raises(ConfigurationError, match=r"too old \(step .*: run 'aioq migrate'"):
        await again().open()
    await sql.execute(f'delete from "{schema}".migration')
    with pytest.raises(ConfigurationError, match=r"has no aioq tables in the schema .*migrate"):
        await again().open()


async def test_a_busy_pool_says_how_to_widen_it(open_broker: Callable[..., Any], dsn: str) -> None:
    broker: PostgresBroker = await open_broker(dsn, min_connections=0, max_connections=1)
    pool = broker._local().pool
    held = asyncio.Event()
    taken = asyncio.Event()

    async def hold(connection: Any) -> None:
        taken.set()
        await held.wait()

    holding = asyncio.create_task(pool.call(hold, 60))
    await taken.wait()
    with pytest.raises(BrokerUnavailable, match=r"were busy for 0\.05 s; .*raise max_connections"):
        await pool.call(hold, 0.05)
    held.set()
    await holding


async def test_a_dsn_that_the_driver_refuses() -> None:
    with pytest.raises(ConfigurationError, match=rf"^{HERE}\?sslmode=odd: .*sslmode"):
        await PostgresBroker(f"{HERE}?sslmode=odd").open()


async def never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


def test_leases_that_could_not_be_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioq_postgres._lease.Pool.call", never)
    client = PostgresLeaseClient(PostgresBroker(HERE)._server, Texts("aioq"))
    try:
        with pytest.raises(BrokerUnavailable, match=r"did not renew the leases within 0\.01 s"):
            client.renew([], 30)
    finally:
        client.close()


async def test_a_migration_that_waits_for_others(
    broker: PostgresBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq_postgres._migrate._migrate", never)
    monkeypatch.setattr("aioq_postgres._migrate.PATIENCE", 0.01)
    with pytest.raises(BrokerUnavailable, match=r"locks within 0\.01 s: .*long transactions"):
        await broker.migrate()


async def test_a_connection_that_comes_after_the_end(broker: PostgresBroker) -> None:
    pool = Pool(broker._server, 1)
    pool._closed = True
    with pytest.raises(BrokerUnavailable, match="the broker has been closed"):
        await pool._connect()
