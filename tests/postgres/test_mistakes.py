"""What is wrong with a server or a DSN is said in one sentence."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest
from servers.postgres import PostgresServer

from aioq import Aarq
from aioq.errors import (
    BatchRejected,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    InvalidOption,
)
from aioq.plugins import Fence, NewJob, Settlement
from aioq_postgres import PostgresBroker
from aioq_postgres._rows import make_token, split_token

pytestmark = pytest.mark.anyio

ID = "01234567-89ab-7def-8123-456789abcdef"


def test_the_url_shows_no_password() -> None:
    broker = PostgresBroker(
        "postgresql://ann:secret@db.example:5432/app?password=x&sslmode=require"
    )
    assert broker.url == "postgresql://ann@db.example:5432/app?sslmode=require"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ann:se/cret@db.example/app",
        "postgresql://ann:se?cret@db.example/app",
        "postgresql://ann:se#cret@db.example/app",
        "postgresql://ann:se[cret@db.example/app",
        "postgresql://ann:x@se/cret@db.example/app",
        "postgresql://ann:x@secret@db.example/app?password=secret",
        "postgresql://ann:secret",
        "postgresql://ann:secret/app",
    ],
)
def test_a_password_with_special_signs_is_not_shown(dsn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write / as %2F") as refused:
        PostgresBroker(dsn)
    told = str(refused.value)
    assert "that begins with postgresql://ann cannot be read" in told
    assert "cret" not in told


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:///app?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/app",
        "postgresql://ann:p%40ss,w:ord%2F@[::1]:5432/app",
        "postgresql://ann@one:5432,two:5433/app?target_session_attrs=read-write",
        "postgres://db.example:5432?application_name=me@home",
    ],
)
def test_a_dsn_in_any_form(dsn: str) -> None:
    hidden = dsn.replace(":p%40ss,w:ord%2F", "").replace("/run/p", "%2Frun%2Fp")
    assert PostgresBroker(dsn).url == hidden.replace("me@home", "me%40home")


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("channel_binding=require", "leave it out; sslmode=verify-full makes sure"),
        ("connect_timeout=10", r"pass PostgresBroker\(timeout=\.\.\.\)"),
        ("keepalives=1", "leave it out"),
        ("gssencmode=disable", "leave it out"),
    ],
)
def test_options_that_the_driver_does_not_know(option: str, advice: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(ConfigurationError, match=rf"does not know the option '{name}': .*{advice}"):
        PostgresBroker(f"postgresql://ann:secret@db.example/app?sslmode=require&{option}")
    with pytest.raises(ConfigurationError, match=name):
        PostgresBroker(direct_dsn=f"postgresql://ann:secret@db.example/app?{option}")


async def test_settings_of_the_server_in_a_dsn(open_broker: Callable[..., Any], dsn: str) -> None:
    mine = await open_broker(f"{dsn}?application_name=mine&statement_timeout=77s")
    for setting, value in (("application_name", "mine"), ("statement_timeout", "77s")):
        asked = f"show {setting}"
        found = await mine._local().pool.call(lambda con, text=asked: con.fetchval(text), 30)
        assert found == value


def test_schemes_lead_here() -> None:
    for url in ("postgresql://localhost/app", "postgres://localhost/app"):
        assert isinstance(Aarq(url).broker, PostgresBroker)


@pytest.mark.parametrize(
    "options",
    [
        {"min_connections": 5},
        {"max_connections": 0, "min_connections": 0},
        {"statement_cache_size": -1},
        {"timeout": 0},
        {"keep_finished": -1},
        {"schema": ""},
        {"schema": "pg_mine"},
        {"schema": "x" * 64},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        PostgresBroker(**options)


def test_a_dsn_of_something_else() -> None:
    with pytest.raises(ConfigurationError, match="begins with postgresql://"):
        PostgresBroker("mysql://localhost/app")
    with pytest.raises(ConfigurationError, match="begins with postgresql://"):
        PostgresBroker("postgresql://localhost/app", direct_dsn="localhost")


def test_tokens_are_fences() -> None:
    fence = Fence(ID, 7, ID[::-1].replace("-", "")[:8] + ID[8:], 1_800_000_000_000)
    parts = split_token(fence.pack())
    assert parts is not None
    assert (str(parts[0]), parts[1], str(parts[2]), parts[3]) == fence
    assert make_token(parts[0].bytes, parts[1], parts[2].bytes, parts[3]) == fence.pack()
    assert split_token(b"short") is None


async def test_nobody_listens() -> None:
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        await PostgresBroker("postgresql://127.0.0.1:1/app").open()


async def test_no_such_database(dsn: str) -> None:
    wrong = dsn.rpartition("/")[0] + "/nowhere"
    with pytest.raises(ConfigurationError, match="nowhere"):
        await PostgresBroker(wrong, timeout=30.0).open()


@pytest.fixture(scope="module")
def strict(start_server: Callable[..., PostgresServer]) -> Iterator[PostgresServer]:
    """A server with passwords and with users that may do little."""
    server = start_server()
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all ann,bob 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    subprocess.run(
        [str(server._binaries / "psql"), server.dsn(), "-q"],
        input="create role ann login password 'right'; create role bob login password 'right';"
        "select pg_reload_conf();",
        text=True,
        check=True,
        capture_output=True,
    )
    yield server
    server.close()


async def test_a_wrong_password(strict: PostgresServer) -> None:
    with pytest.raises(ConfigurationError, match="password"):
        await PostgresBroker(strict.dsn(user="ann", password="wrong"), timeout=30.0).open()


async def test_missing_rights(strict: PostgresServer) -> None:
    with pytest.raises(ConfigurationError, match="may not create"):
        await PostgresBroker(strict.dsn(user="ann", password="right"), timeout=30.0).migrate()
    await PostgresBroker(strict.dsn(), timeout=30.0).migrate()
    for look in (PostgresBroker.open, PostgresBroker.missing_migrations):
        with pytest.raises(ConfigurationError, match="may not do that"):
            await look(PostgresBroker(strict.dsn(user="ann", password="right"), timeout=30.0))


async def test_rights_that_a_worker_waits_for(strict: PostgresServer) -> None:
    """It says so in a sentence, keeps what it has, and goes on once they are granted."""
    await PostgresBroker(strict.dsn(), schema="for_ann", timeout=30.0).migrate()
    admin = await asyncpg.connect(strict.dsn())
    await admin.execute("grant usage on schema for_ann to ann")
    await admin.execute("grant select on all tables in schema for_ann to ann")
    ann = PostgresBroker(strict.dsn(user="ann", password="right"), schema="for_ann", timeout=30.0)
    async with ann:
        assert list(await ann.counts()) == []
        for call in (
            lambda: ann.upkeep(["q"], lease_ms=1000),
            lambda: ann.claim(["q"], 1, worker=ID, lease_ms=1000),
            lambda: ann.beat(_worker()),
        ):
            with pytest.raises(BrokerUnavailable, match=r"may not do that .*it needs select"):
                await call()
        jobs = [NewJob(ID, "q", "t", b"", b"")]
        with pytest.raises(BrokerError, match="may not do that") as refused:
            await ann.enqueue(jobs, producer=b"producer", numbers={"q": 1})
        assert not isinstance(refused.value, BrokerUnavailable), "a client does not wait for it"
        await admin.execute("grant insert, update, delete on all tables in schema for_ann to ann")
        await ann.enqueue(jobs, producer=b"producer", numbers={"q": 1})
        assert len((await ann.claim(["q"], 1, worker=ID, lease_ms=1000)).jobs) == 1
    await admin.close()


async def test_tables_that_are_dropped_under_an_open_broker(
    broker: PostgresBroker, sql: "asyncpg.Connection[asyncpg.Record]", schema: str
) -> None:
    """Each call says so in a sentence, and works again once they are there."""
    token = Fence(ID, 1, ID, 0).pack()
    await sql.execute(f'drop schema "{schema}" cascade')
    for call in (
        lambda: broker.upkeep(["q"], lease_ms=1000),
        lambda: broker.claim(["q"], 1, worker=ID, lease_ms=1000),
        lambda: broker.settle([Settlement(token, "completed")]),
        lambda: broker.renew([token], 1000),
        lambda: broker.beat(_worker()),
    ):
        with pytest.raises(BrokerError, match=r"does not exist; has 'aioq migrate' been run"):
            await call()
    await broker.migrate()
    assert not (await broker.claim(["q"], 1, worker=ID, lease_ms=1000)).jobs


async def test_rights_that_suffice(strict: PostgresServer) -> None:
    await PostgresBroker(strict.dsn(), schema="for_bob", timeout=30.0).migrate()
    admin = await asyncpg.connect(strict.dsn())
    await admin.execute("grant usage on schema for_bob to bob")
    await admin.execute(
        "grant select, insert, update, delete on all tables in schema for_bob to bob"
    )
    await admin.close()
    bob = PostgresBroker(strict.dsn(user="bob", password="right"), schema="for_bob", timeout=30.0)
    async with bob:
        jobs = [NewJob(ID, "q", "t", b"", b"")]
        await bob.enqueue(jobs, producer=b"producer", numbers={"q": 1})
        claimed = await bob.claim(["q"], 1, worker=ID, lease_ms=1000)
        assert len(claimed.jobs) == 1
        await bob.upkeep(["q"], lease_ms=1000)
        await bob.beat(_worker())
        assert len(await bob.workers()) == 1


async def test_a_standby_is_named(start_server: Callable[..., PostgresServer]) -> None:
    primary = start_server()
    broker = PostgresBroker(primary.dsn(), timeout=30.0)
    await broker.migrate()
    primary.stop()
    # A copy that believes it follows somebody is read-only, which is all that matters here.
    (primary.data / "standby.signal").touch()
    shutil.chown(primary.data / "standby.signal", *_owner(primary))
    primary.start()
    with pytest.raises(ConfigurationError, match="standby"):
        await broker.open()
    primary.close()


async def test_a_primary_that_became_read_only(
    open_broker: Callable[..., Any], dsn: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    broker: PostgresBroker = await open_broker(dsn)
    await broker._local().pool.call(
        lambda connection: connection.execute("set default_transaction_read_only = on"), 30
    )
    with pytest.raises(BrokerUnavailable, match="read-only"):
        await broker.enqueue(
            [NewJob(ID, "q", "t", b"", b"")], producer=b"producer", numbers={"q": 1}
        )


async def test_records_kept_for_ever(open_broker: Callable[..., Any], dsn: str) -> None:
    broker: PostgresBroker = await open_broker(dsn, keep_finished=sys.maxsize)
    assert (await broker.upkeep(["q"], lease_ms=1000)).trimmed == 0


async def test_values_that_cannot_be_stored(broker: PostgresBroker) -> None:
    for bad in (
        NewJob(ID, "q\0", "t", b"", b""),
        NewJob(ID, "q", "\ud800", b"", b""),
        NewJob("no id", "q", "t", b"", b""),
        NewJob(ID, "q", "t", b"", b"", priority=2**40),
        NewJob(ID, "q", "t", b"", b"", at_ms=2**70),
        NewJob(ID, "q" * 10_000_000, "t", b"", b""),
    ):
        with pytest.raises(BatchRejected):
            await broker.enqueue([bad], producer=b"producer", numbers={bad.queue: 1})
    assert await broker.get([ID]) == [None]


async def test_dropped_tables_are_named(
    broker: PostgresBroker, schema: str, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await sql.execute(f'drop schema "{schema}" cascade')
    with pytest.raises(BrokerError, match="aioq migrate"):
        await broker.get([ID])


def _worker() -> Any:
    from aioq.plugins import WorkerInfo

    return WorkerInfo(ID, "host", 1, ("q",), 1, "0")


def _owner(server: PostgresServer) -> tuple[int, int]:
    status = server.data.stat()
    return status.st_uid, status.st_gid
