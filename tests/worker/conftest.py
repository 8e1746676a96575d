"""One app on a faulty memory broker per test, and a log that can be read."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from worker.harness import FaultyBroker, Log

from aioq import Aarq


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


@pytest.fixture(autouse=True)
def unheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an event loop would only print ("Task exception was never retrieved") fails the test."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        asyncio.BaseEventLoop, "call_exception_handler", lambda _, context: told.append(context)
    )
    yield
    gc.collect()
    assert told == []
