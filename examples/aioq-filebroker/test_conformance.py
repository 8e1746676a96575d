"""FileBroker keeps every promise that a broker has to keep."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioq_filebroker import FileBroker

from aioq.testing import FakeClock
from aioq.testing.conformance import Advance, BrokerSuite, ModelSuite, OpenBroker


class TestFileBroker(BrokerSuite):
    capabilities = FileBroker.capabilities

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    async def broker(self, clock: FakeClock, tmp_path: Path) -> AsyncIterator[FileBroker]:
        async with FileBroker(f"file:///{tmp_path}/jobs.aioq", clock=clock) as broker:
            yield broker

    @pytest.fixture
    async def second(self, broker: FileBroker, clock: FakeClock) -> AsyncIterator[FileBroker]:
        async with FileBroker(broker.url, clock=clock) as second:
            yield second

    @pytest.fixture
    def advance(self, clock: FakeClock) -> Advance:
        async def advance(ms: int) -> None:
            clock.advance(ms)

        return advance


class TestModel(ModelSuite):
    @pytest.fixture
    def open_broker(self, tmp_path: Path) -> OpenBroker:
        made = iter(range(1_000_000))
        return lambda clock: FileBroker(f"file:///{tmp_path}/{next(made)}.aioq", clock=clock)
