"""One store per test, the app in this process as its client, and a fleet of worker processes."""

import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from acceptance.harness import HERE, Fleet, Journal


@pytest.fixture(params=["sqlite"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The store of this test, shared with its worker processes."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    path = tmp_path / "journal"
    monkeypatch.setenv("AIOQ_TEST_JOURNAL", str(path))
    return Journal(path)


@pytest.fixture
def fleet(broker_url: str, journal: Journal, tmp_path: Path) -> Iterator[Fleet]:
    env = {
        **os.environ,
        "AIOQ_BROKER_URL": broker_url,
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
