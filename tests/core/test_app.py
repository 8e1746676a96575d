"""``Aarq(...)``: which broker it takes, and what it says when there is none."""

from pathlib import Path
from typing import Any

import pytest

from aioq import Aarq
from aioq.backends import MemoryBroker
from aioq.errors import ConfigurationError, InvalidOption, NoBroker
from aioq.plugins import BrokerSpec, hookimpl
from aioq.plugins._registry import Registry


class Announces:
    """A plugin that brings one broker."""

    def __init__(self, spec: BrokerSpec) -> None:
        self.aioq_brokers = hookimpl(lambda: [spec])


@pytest.fixture(autouse=True)
def no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOQ_BROKER_URL", raising=False)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Core with no plugin installed."""
    own = Registry(external=False)
    monkeypatch.setattr("aioq._app.registry", lambda external=True: own)
    monkeypatch.setattr("aioq._brokers.registry", lambda external=True: own)
    return own


@pytest.fixture
def with_sqlite(alone: Registry) -> list[str]:
    """Core with a stand-in for aioq-sqlite; collects the URLs it is called with."""
    urls: list[str] = []

    def load() -> Any:
        def make(url: str) -> MemoryBroker:
            urls.append(url)
            return MemoryBroker()

        return make

    announced = BrokerSpec(name="SQLiteBroker", schemes=("sqlite",), load=load)
    alone.add(Announces(announced), "sqlite")
    return urls


def test_a_broker_object_is_taken_as_it_is() -> None:
    broker = MemoryBroker()
    assert Aarq(broker).broker is broker
    assert Aarq(broker=broker).broker is broker


def test_a_url_is_served_by_the_broker_that_announced_its_scheme() -> None:
    assert isinstance(Aarq("memory://").broker, MemoryBroker)
    with pytest.raises(InvalidOption, match=r"^the memory broker's URL is memory://, got 'memory:"):
        Aarq("memory://host")


def test_without_a_broker_the_environment_says_which(
    monkeypatch: pytest.MonkeyPatch, alone: Registry
) -> None:
    monkeypatch.setenv("AIOQ_BROKER_URL", "memory://")
    assert isinstance(Aarq().broker, MemoryBroker)


def test_the_environment_is_read_when_the_broker_is_needed(
    monkeypatch: pytest.MonkeyPatch, alone: Registry
) -> None:
    app = Aarq()
    monkeypatch.setenv("AIOQ_BROKER_URL", "memory://")
    assert app.broker is app.broker


def test_the_embedded_default_warns_once_with_its_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_sqlite: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    app = Aarq()
    with pytest.warns(RuntimeWarning) as warned:
        assert app.broker is app.broker
    assert [str(warning.message) for warning in warned] == [
        f"no broker was given and AIOQ_BROKER_URL is not set: jobs are kept in "
        f"{tmp_path / 'aioq.db'}"
    ]
    assert with_sqlite == ["sqlite:///aioq.db"]


async def test_with_no_broker_to_be_had_the_error_names_the_three_ways(alone: Registry) -> None:
    app = Aarq()

    @app.task
    async def task(ctx: Any) -> None: ...

    with pytest.raises(NoBroker) as refused:
        await task.enqueue()
    assert str(refused.value) == (
        "no broker: pass one to Aarq(...), set AIOQ_BROKER_URL, or 'pip install aioq-sqlite' for "
        "the embedded default"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://host/db", "mysql://host/db"),
        ("mysql://me:secret@host/db", "mysql://me:***@host/db"),
        ("mysql://:secret@host", "mysql://:***@host"),
        ("mysql://me:s@secret@host", "mysql://me:***@host"),
        ("mysql://me:s://secret@host", "mysql://me:***@host"),
        ("me:secret@host", "me:***@host"),
        ("mysql://host?password=secret&x=1", "mysql://host?password=***&x=1"),
        ("host=db user=me password=secret dbname=x", "host=db user=me password=*** dbname=x"),
        ("", ""),
    ],
)
def test_a_url_nobody_serves_is_shown_without_its_password(
    alone: Registry, url: str, shown: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Aarq(url)
    assert str(refused.value) == (
        f"no installed broker serves {shown!r}; installed schemes: memory://"
    )
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("scheme", "package"),
    [
        ("redis", "aioq-redis"),
        ("rediss", "aioq-redis"),
        ("postgresql", "aioq-postgres"),
        ("postgres", "aioq-postgres"),
        ("sqlite", "aioq-sqlite"),
    ],
)
def test_a_url_of_ours_names_the_package_that_is_missing(
    alone: Registry, scheme: str, package: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"(?m); for {scheme}:// pip install {package}$"):
        Aarq(f"{scheme}://localhost")


@pytest.mark.parametrize("broker", [5, b"memory://", MemoryBroker])
def test_what_is_neither_broker_nor_url_is_refused(broker: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^broker must be a broker or a URL, got "):
        Aarq(broker)


def test_a_prompt_shows_where_the_jobs_are() -> None:
    app = Aarq("memory://", plugins=False)
    assert (repr(app), repr(app.broker)) == ("<Aarq memory://>", "<MemoryBroker memory://>")
    assert repr(Aarq(plugins=False)) == "<Aarq>"
