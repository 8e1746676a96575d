"""Every promise of the broker contract as a test. Needs pytest, anyio's plugin and hypothesis.

A broker's author writes, and runs with pytest::

    class TestMyBroker(BrokerSuite):
        @pytest.fixture
        def clock(self):
            return FakeClock()

        @pytest.fixture
        async def broker(self, clock):
            async with MyBroker(clock=clock) as broker:
                yield broker

        @pytest.fixture
        def advance(self, clock):
            async def advance(ms):
                clock.advance(ms)
            return advance

``BaseSuite`` documents the fixtures, ``ModelSuite`` compares random operations with the reference.
What the broker declares to lack in its ``capabilities`` is skipped, by name; nothing else is.
"""

import pkgutil

import pytest

# Before the imports, so that failures show the values compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)

from aioq.testing.conformance._base import BaseSuite  # noqa: E402
from aioq.testing.conformance._cancelling import CancelCases  # noqa: E402
from aioq.testing.conformance._cases import (  # noqa: E402
    CASES,
    ELSEWHERE,
    coverage,
    covered_by,
    covers,
    needs,
    table,
)
from aioq.testing.conformance._delivery import DeliveryCases  # noqa: E402
from aioq.testing.conformance._enqueue import EnqueueCases  # noqa: E402
from aioq.testing.conformance._faults import FaultCases  # noqa: E402
from aioq.testing.conformance._leases import LeaseCases  # noqa: E402
from aioq.testing.conformance._listing import ListingCases  # noqa: E402
from aioq.testing.conformance._model import ModelSuite, OpenBroker, check_model  # noqa: E402
from aioq.testing.conformance._namespaces import NamespaceCases  # noqa: E402
from aioq.testing.conformance._quarantine import QuarantineCases  # noqa: E402
from aioq.testing.conformance._retention import RetentionCases  # noqa: E402
from aioq.testing.conformance._scheduling import SchedulingCases  # noqa: E402
from aioq.testing.conformance._settling import SettleCases  # noqa: E402
from aioq.testing.conformance._tools import Advance, Kit  # noqa: E402

__all__ = [
    "CASES",
    "ELSEWHERE",
    "Advance",
    "BaseSuite",
    "BrokerSuite",
    "CancelCases",
    "DeliveryCases",
    "EnqueueCases",
    "FaultCases",
    "Kit",
    "LeaseCases",
    "ListingCases",
    "ModelSuite",
    "NamespaceCases",
    "OpenBroker",
    "QuarantineCases",
    "RetentionCases",
    "SchedulingCases",
    "SettleCases",
    "check_model",
    "coverage",
    "covered_by",
    "covers",
    "needs",
    "table",
]


class BrokerSuite(
    EnqueueCases,
    DeliveryCases,
    SchedulingCases,
    LeaseCases,
    SettleCases,
    QuarantineCases,
    CancelCases,
    ListingCases,
    RetentionCases,
    NamespaceCases,
    FaultCases,
):
    """All topics."""
