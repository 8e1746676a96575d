"""What a subclass gives (a broker, a way to move its clock) and what each test gets (a kit)."""

import inspect
import os
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from aioq._broker import BaseBroker
from aioq._records import Capabilities
from aioq.testing.conformance._cases import each_test, needs_of
from aioq.testing.conformance._tools import Advance, Kit

__all__ = ["BaseSuite"]


class BaseSuite:
    """Fixtures of every topic.

    A subclass gives two fixtures, and one more for each of two capabilities:

    ``broker``
        An open and empty broker, closed afterwards. Its ``max_crashes`` may be any.
    ``advance``
        An async callable: ``await advance(ms)`` moves the store's clock forward, all of it (leases,
        delays, records). At once where the broker takes a clock or an offset; one that really waits
        may call ``pytest.skip`` when asked for too long.
    ``second``
        Another broker object on the same store, open, as another process would have it. Only asked
        for when ``capabilities.multi_process``.
    ``neighbour``
        A broker on the same store, open, in another namespace. Only asked for when
        ``capabilities.namespaces``.
    """

    pytestmark = pytest.mark.anyio

    lease_ms: ClassVar[int] = 30_000
    """Lease of all deliveries; shorter where time has to be waited for."""
    keep_ms: ClassVar[int] = 7 * 86_400_000
    """No record of a finished job without a saved result may be older."""
    rounds: ClassVar[int] = int(os.environ.get("AIOQ_CONFORMANCE_ROUNDS", "200"))
    """How often each race is run."""
    patience: ClassVar[float] = 30.0
    """Seconds within which hints and waiters must hear of news, by real time: a few poll intervals
    (those are up to 5 s), so that a busy machine fails no test."""

    capabilities: ClassVar[Capabilities | None] = None
    """Set it to the broker's own, and tests that need more are left out instead of skipped."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        declared = cls.capabilities
        if declared is not None:
            for name, test in list(each_test(cls)):
                shares = "second" in inspect.signature(test).parameters
                wanted = (*needs_of(test), *(("multi_process",) if shares else ()))
                if not all(getattr(declared, capability) for capability in wanted):
                    setattr(cls, name, None)

    @pytest.fixture
    def broker(self) -> Any:
        """An open, empty broker."""
        pytest.fail(f"{type(self).__name__} must give a fixture 'broker'")

    @pytest.fixture
    def advance(self) -> Any:
        """Moves the store's clock by milliseconds, awaited."""
        pytest.fail(f"{type(self).__name__} must give a fixture 'advance'")

    @pytest.fixture
    def second(self, broker: BaseBroker) -> Any:
        """A second broker on the same store."""
        if broker.capabilities.multi_process:
            pytest.fail(
                f"{type(self).__name__} must give a fixture 'second': its broker says that "
                f"processes can share the store"
            )
        pytest.skip("the broker lacks the capability multi_process")

    @pytest.fixture
    def neighbour(self) -> Any:
        """A broker of another namespace on the same store."""
        pytest.fail(
            f"{type(self).__name__} must give a fixture 'neighbour': its broker says that it keeps "
            f"namespaces apart"
        )

    @pytest.fixture(autouse=True)
    def _capable(self, request: pytest.FixtureRequest, broker: BaseBroker) -> None:
        for name in needs_of(request.function):
            if not getattr(broker.capabilities, name):
                pytest.skip(f"the broker lacks the capability {name}")

    @pytest.fixture
    async def kit(self, broker: BaseBroker, advance: Advance) -> AsyncIterator[Kit]:
        """The broker in the hands of the test; afterwards the ledger is checked (case 78)."""
        kit = Kit(broker, advance, lease_ms=self.lease_ms)
        yield kit
        await kit.check_ledger()

    @pytest.fixture
    async def next_door(self, neighbour: BaseBroker, advance: Advance) -> AsyncIterator[Kit]:
        """The neighbour in the hands of the test, with a ledger of its own."""
        kit = Kit(neighbour, advance, lease_ms=self.lease_ms)
        yield kit
        await kit.check_ledger()

    @pytest.fixture
    def rival(self, request: pytest.FixtureRequest, broker: BaseBroker, kit: Kit) -> Kit:
        """Who races with ``kit``: the second broker, or the same one where there is no other."""
        shared = broker.capabilities.multi_process
        return kit.on(request.getfixturevalue("second") if shared else broker)
