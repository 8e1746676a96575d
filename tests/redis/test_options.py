"""URLs and options: what is taken, what is refused, and what is never shown."""

import pytest

from aioq.backends import RedisBroker as ByName
from aioq.errors import InvalidOption
from aioq_redis import RedisBroker


def test_found_by_its_entry_point() -> None:
    assert ByName is RedisBroker


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://user:pa@ss@db.example:7000/3?client_name=x", "redis://db.example:7000/3"),
        ("rediss://:secret@a,b:7001", "rediss://a:6379,b:7001/0"),
        ("redis://[::1]:7000,[::2],[::3]:7001", "redis://[::1]:7000,[::2]:6379,[::3]:7001/0"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert RedisBroker(url).url == shown


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://localhost"},
        {"url": "redis://localhost:port"},
        {"url": "redis://localhost,other:port"},
        {"url": "redis://localhost,"},
        {"url": "redis://localhost,:7000"},
        {"url": "unix://"},
        {"namespace": "a.b"},
        {"namespace": "a{b}"},
        {"namespace": ""},
        {"namespace": "A"},
        {"socket_timeout": 0},
        {"socket_timeout": 600},
        {"durability": "paper"},
        {"max_records": 0},
        {"max_crashes": 2},
        {"max_payload": 0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        RedisBroker(**options)


def test_each_server_of_a_url_has_a_bare_name() -> None:
    """Brackets belong to the URL, not to the name that is looked up."""
    broker = RedisBroker("redis://[::1]:7000,[::2]")
    assert broker._topology.seeds == (("::1", 7000), ("::2", 6379))


def test_a_refused_url_hides_its_password() -> None:
    with pytest.raises(InvalidOption) as refused:
        RedisBroker("http://user:secret@localhost")
    assert "secret" not in str(refused.value)
