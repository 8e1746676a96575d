"""The SQLite broker keeps every promise."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aioq.testing import FakeClock
from aioq.testing.conformance import Advance, BrokerSuite, ModelSuite, OpenBroker, QuarantineCases
from aioq_sqlite import SQLiteBroker


class OnOneFile:
    """Fixtures of two brokers on one database file and one fake clock."""

    capabilities = SQLiteBroker.capabilities
    max_crashes = 3

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    async def broker(self, tmp_path: Path, clock: FakeClock) -> AsyncIterator[SQLiteBroker]:
        async with self._open(tmp_path, clock) as broker:
            yield broker

    @pytest.fixture
    async def second(
        self, broker: SQLiteBroker, tmp_path: Path, clock: FakeClock
    ) -> AsyncIterator[SQLiteBroker]:
        async with self._open(tmp_path, clock) as second:
            yield second

    @pytest.fixture
    async def neighbour(
        self, broker: SQLiteBroker, tmp_path: Path, clock: FakeClock
    ) -> AsyncIterator[SQLiteBroker]:
        neighbour = self._open(tmp_path, clock)
        neighbour.use_namespace("next-door")
        async with neighbour:
            yield neighbour

    @pytest.fixture
    def advance(self, clock: FakeClock) -> Advance:
        async def advance(ms: int) -> None:
            clock.advance(ms)

        return advance

    def _open(self, folder: Path, clock: FakeClock) -> SQLiteBroker:
        return SQLiteBroker(
            folder / "aioq.db", synchronous="NORMAL", clock=clock, max_crashes=self.max_crashes
        )


class TestSQLite(OnOneFile, BrokerSuite):
    pass


class TestSQLiteWithMoreCrashes(OnOneFile, QuarantineCases):
    max_crashes = 5


class TestSQLiteOnTrio(OnOneFile, BrokerSuite):
    rounds = 10

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"


class TestSQLiteModel(ModelSuite):
    @pytest.fixture
    def open_broker(self) -> OpenBroker:
        @asynccontextmanager
        async def open_broker(clock: FakeClock) -> AsyncIterator[SQLiteBroker]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "aioq.db"
                async with SQLiteBroker(path, synchronous="NORMAL", clock=clock) as broker:
                    yield broker

        return open_broker
