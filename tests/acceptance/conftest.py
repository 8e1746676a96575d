"""One store per test, the app in this process as its client, and a fleet of worker processes."""

import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from acceptance.harness import HERE, Fleet, Journal
from acceptance.stores import STORES, Place


@pytest.fixture(scope="session", params=STORES)
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    unavailable: Callable[[str], NoReturn],
) -> Iterator[Place]:
    """Each kind of store in turn."""
    store = STORES[request.param]
    if (missing := store.missing()) is not None:
        unavailable(missing)
    place = store.open(tmp_path_factory.mktemp(request.param))
    yield place
    place.close()


@pytest.fixture
def broker_url(place: Place, tmp_path: Path) -> str:
    """The store of this test, shared with its worker processes."""
    return place.fresh(tmp_path)


@pytest.fixture
def worker_url(broker_url: str) -> str:
    """The way by which the worker processes reach the store."""
    return broker_url


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    path = tmp_path / "journal"
    monkeypatch.setenv("AIOQ_TEST_JOURNAL", str(path))
    return Journal(path)


@pytest.fixture
def fleet(worker_url: str, journal: Journal, tmp_path: Path) -> Iterator[Fleet]:
    env = {
        **os.environ,
        "AIOQ_BROKER_URL": worker_url,
        "AIOQ_DISABLE_PLUGINS": "otel",  # a quarter of a worker's start, and has tests of its own
        "AIOQ_TEST_JOURNAL": str(journal.path),
        "PYTHONPATH": str(HERE),
    }
    fleet = Fleet(env, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
async def jobs(
    broker_url: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ModuleType]:
    """The module ``jobs_app`` as this test's client; a fresh copy, with an app of its own."""
    monkeypatch.setenv("AIOQ_BROKER_URL", broker_url)
    spec = importlib.util.spec_from_file_location("jobs_app", HERE / "jobs_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "jobs_app", module)
    spec.loader.exec_module(module)
    async with module.app:
        yield module
