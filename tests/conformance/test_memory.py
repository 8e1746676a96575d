"""The memory broker keeps every promise."""

from collections.abc import AsyncIterator

import pytest

from aioq._memory import MemoryBroker
from aioq.testing import FakeClock
from aioq.testing.conformance import (
    Advance,
    BrokerSuite,
    ModelSuite,
    OpenBroker,
    QuarantineCases,
)


class OnFakeClock:
    """Fixtures of a memory broker on a fake clock."""

    capabilities = MemoryBroker.capabilities
    max_crashes = 3

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    async def broker(self, clock: FakeClock) -> AsyncIterator[MemoryBroker]:
        async with MemoryBroker(clock=clock, max_crashes=self.max_crashes) as broker:
            yield broker

    @pytest.fixture
    async def neighbour(self, clock: FakeClock) -> AsyncIterator[MemoryBroker]:
        async with MemoryBroker(namespace="next-door", clock=clock) as neighbour:
            yield neighbour

    @pytest.fixture
    def advance(self, clock: FakeClock) -> Advance:
        async def advance(ms: int) -> None:
            clock.advance(ms)

        return advance


class TestMemory(OnFakeClock, BrokerSuite):
    pass


class TestMemoryWithMoreCrashes(OnFakeClock, QuarantineCases):
    max_crashes = 5


class TestMemoryOnTrio(OnFakeClock, BrokerSuite):
    rounds = 20

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"


class TestMemoryModel(ModelSuite):
    """A broker must agree with itself: this proves the machine, and repeats its own runs."""

    @pytest.fixture
    def open_broker(self) -> OpenBroker:
        return lambda clock: MemoryBroker(clock=clock)
