"""Which URLs and options are taken, and how the others are refused."""

from pathlib import Path

import pytest

from aioq.errors import ConfigurationError, InvalidOption
from aioq_sqlite import SQLiteBroker


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "{cwd}/jobs.db"),
        ("sqlite:///deep/jobs.db", "{cwd}/deep/jobs.db"),
        ("sqlite:////var/jobs.db", "/var/jobs.db"),
        ("sqlite:////var/my%20jobs.db", "/var/my jobs.db"),
        ("jobs.db", "{cwd}/jobs.db"),
        ("/var/jobs.db", "/var/jobs.db"),
        (Path("/var/jobs.db"), "/var/jobs.db"),
    ],
)
def test_url_shows_the_absolute_path(
    url: str | Path, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SQLiteBroker(url).url == "sqlite:///" + path.format(cwd=tmp_path)


@pytest.mark.parametrize("name", ["100%25.db", "what?.db", "a#b.db", "my jöbs:1.db"])
def test_the_url_of_a_path_leads_to_it(name: str, tmp_path: Path) -> None:
    broker = SQLiteBroker(tmp_path / name)
    again = SQLiteBroker(broker.url)
    assert (again._path, again.url) == (tmp_path / name, broker.url)


def test_the_path_is_fixed_when_the_broker_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broker = SQLiteBroker("jobs.db")
    monkeypatch.chdir("/")
    assert broker.url == f"sqlite:///{tmp_path}/jobs.db"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "MemoryBroker"),
        ("sqlite:///", "MemoryBroker"),
        ("sqlite:///:memory:", "MemoryBroker"),
        ("sqlite://:memory:", "MemoryBroker"),
        (":memory:", "MemoryBroker"),
        ("", "MemoryBroker"),
        ("sqlite://host/jobs.db", "names the host 'host', but SQLite has none; write sqlite:///"),
        ("sqlite:///jobs.db?mode=ro", "carries options; pass them to SQLiteBroker"),
        ("redis://localhost", "is no SQLite URL; write sqlite:///"),
        ("file:jobs.db", "no SQLite URL"),
        ("a\0b", "is no path: it contains a NUL character"),
    ],
)
def test_other_urls_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        SQLiteBroker(url)


@pytest.mark.parametrize(
    "options",
    [
        {"synchronous": "OFF"},
        {"keep_finished": -1},
        {"keep_finished": float("nan")},
        {"max_payload": 0},
        {"max_crashes": 2},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options))):
        SQLiteBroker("jobs.db", **options)


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("jobs.db", "jobs.shop.db"),
        ("a.b/jobs", "a.b/jobs.shop.db"),
        ("j.o.sqlite", "j.o.shop.sqlite"),
    ],
)
def test_a_namespace_has_a_file_of_its_own(
    path: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SQLiteBroker(path, namespace="shop").url == f"sqlite:///{tmp_path / file}"


async def test_the_namespace_of_an_open_broker_is_settled(tmp_path: Path) -> None:
    async with SQLiteBroker(tmp_path / "jobs.db") as broker:
        broker.use_namespace("aioq")
        with pytest.raises(ConfigurationError, match="is open: its namespace can no longer"):
            broker.use_namespace("shop")
        assert broker.url.endswith("/jobs.db")


async def test_only_a_file_with_tables_in_it_exists(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    broker = SQLiteBroker(path)
    assert not await broker.exists()
    path.touch()
    assert not await broker.exists(), "an empty file would be given its tables"
    async with broker:
        assert await broker.exists()
    assert await broker.exists()
    assert not await SQLiteBroker(path / "jobs.db").exists()


async def test_places_that_cannot_hold_a_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        await SQLiteBroker(tmp_path / "missing" / "jobs.db").open()
    with pytest.raises(ConfigurationError, match="is a directory; name a file in it"):
        await SQLiteBroker(tmp_path).open()


async def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq_sqlite._url._file_system", lambda folder: "nfs4")
    with pytest.raises(ConfigurationError, match="network file system"):
        await SQLiteBroker(tmp_path / "jobs.db").open()
