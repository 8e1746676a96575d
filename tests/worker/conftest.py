"""One app on a faulty memory broker per test, and a log that can be read."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from worker.harness import FaultyBroker, Log

from aioq import Aarq


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``both_loops``, except for tests that choose their loop themselves."""
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if (
        metafunc.definition.get_closest_marker("both_loops")
        and "anyio_backend" in metafunc.fixturenames
        and not any("anyio_backend" in names for names in chosen)
    ):
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr("aioq.worker._worker.get_logger", lambda: log)
    monkeypatch.setattr("aioq.middleware._logging.get_logger", lambda: log)
    return log


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker()


@pytest.fixture
def app(broker: FaultyBroker, log: Log) -> Aarq:
    return Aarq(broker, plugins=False)


@pytest.fixture(scope="session")
def imported() -> None:
    """What lives as long as the process is not looked at by every test's garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def unheard(imported: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What an event loop would only print ("Task exception was never retrieved") fails the test."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        asyncio.BaseEventLoop, "call_exception_handler", lambda _, context: told.append(context)
    )
    logger, handler = logging.getLogger("aioq"), logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: told.append(vars(record)))
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)
    gc.collect()
    assert told == []
