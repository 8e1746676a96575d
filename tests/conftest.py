"""What every test may use. It needs pytest alone: the core_only session has nothing else."""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import NoReturn

import pytest

with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import HealthCheck, settings

    # A shared machine may stall any example; slowness is the benchmarks' business.
    settings.register_profile("aioq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("aioq")


# A shell starts what it puts in the background deaf to Ctrl-C, and its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of every async test and fixture."""
    return "asyncio"


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Call it with a reason when something a test needs is missing: skips at home, fails in CI."""

    def give_up(reason: str) -> NoReturn:
        if os.environ.get("AIOQ_CI"):
            pytest.fail(f"{reason} (in CI nothing may be missing)", pytrace=False)
        pytest.skip(reason)

    return give_up
