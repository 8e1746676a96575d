"""Each error says what is wrong, where, and what to do, as far as the server tells."""

from typing import Any

import pytest
from redis import exceptions as driver

from aioq.errors import (
    AioqError,
    BatchRejected,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    InvalidOption,
)
from aioq_redis import RedisBroker
from aioq_redis._check import Facts, check
from aioq_redis._errors import packing, translate
from aioq_redis._lease import RedisLeaseClient
from aioq_redis._packing import pack_id

pytestmark = pytest.mark.anyio

HERE = "redis://db.example:6379/0"


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (
            driver.OutOfMemoryError("command not allowed"),
            BrokerError,
            ": Redis is out of memory and takes no new jobs: raise maxmemory, or let the workers "
            "drain it",
        ),
        (
            driver.ResponseError("OOM command not allowed when used memory > 'maxmemory'"),
            BrokerError,
            ": Redis is out of memory and takes no new jobs",
        ),
        (
            driver.AuthenticationError("invalid username-password pair"),
            ConfigurationError,
            ": invalid username-password pair",
        ),
        (
            driver.ResponseError("NOAUTH Authentication required."),
            ConfigurationError,
            ": Redis wants a password (NOAUTH Authentication required.)",
        ),
        (
            driver.ResponseError("WRONGPASS invalid"),
            ConfigurationError,
            ": Redis does not take this user and password (WRONGPASS invalid)",
        ),
        (
            driver.ResponseError("NOPERM this user has no permissions"),
            ConfigurationError,
            ": the Redis user may not do this (NOPERM",
        ),
        (driver.BusyLoadingError("LOADING"), BrokerUnavailable, ": Redis is loading its data"),
        (
            driver.ResponseError("MISCONF Redis is configured to save"),
            BrokerUnavailable,
            ": Redis cannot write its data to disk and takes no writes (MISCONF",
        ),
        (
            driver.ResponseError(
                "Error running script (call to f_1): @user_script:3: @user_script: 3: -READONLY "
                "You can't write against a read only replica."
            ),
            BrokerUnavailable,
            ": this server has become a replica (",
        ),
        (
            driver.ResponseError("@user_script: 3: -READONLY You can't write against a replica."),
            BrokerUnavailable,
            ": this server has become a replica (",
        ),
        (
            driver.ResponseError("NOREPLICAS Not enough good replicas to write."),
            BrokerUnavailable,
            ": too few replicas are connected (min-replicas-to-write) (",
        ),
        (
            driver.AskError("1 127.0.0.1:7000"),
            BrokerUnavailable,
            ": the queue is moving to another server",
        ),
        (driver.ConnectionError("refused"), BrokerUnavailable, " cannot be reached: refused"),
        (TimeoutError(), BrokerUnavailable, " cannot be reached: no answer in time"),
        (
            driver.ResponseError("WRONGTYPE Operation against a key"),
            BrokerError,
            ": a key of aioq holds something else (WRONGTYPE",
        ),
        (driver.ResponseError("ERR unknown command"), BrokerError, ": ERR unknown command"),
    ],
    ids=lambda value: str(value).partition(" ")[0] if isinstance(value, Exception) else None,
)
def test_what_the_driver_raises(raised: Exception, kind: type[AioqError], sentence: str) -> None:
    told = translate(raised, HERE)
    assert type(told) is kind
    assert str(told).startswith(HERE + sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"url": "http://localhost"},
            "a Redis URL begins with redis://, rediss:// or unix://, got",
        ),
        ({"url": "redis://localhost:port"}, "'redis://localhost:port' is no URL of Redis: "),
        ({"url": "unix://"}, "unix:// wants the path of a socket: unix:///run/redis.sock"),
        ({"socket_timeout": 0}, "socket_timeout must be 0.1 to 60 seconds, got 0"),
        ({"max_records": 0}, "max_records must be at least 1, got 0"),
        ({"durability": "paper"}, "durability is one of server, fsync, replicated, got 'paper'"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        RedisBroker(**options)
    assert str(refused.value).startswith(sentence)


async def test_an_option_that_the_driver_does_not_know() -> None:
    with pytest.raises(ConfigurationError, match=r"redis-py does not know an option .*client_nam"):
        await RedisBroker(HERE, client_nam="x").open()


async def test_calls_on_a_broker_that_is_not_open() -> None:
    broker = RedisBroker(HERE)
    with pytest.raises(BrokerUnavailable) as refused:
        await broker.counts()
    assert str(refused.value) == (
        f"{HERE} is not open in this event loop: use 'async with broker', or broker.open()"
    )
    with pytest.raises(BrokerUnavailable) as refused:
        broker.for_lease_thread()
    assert str(refused.value) == f"{HERE} is not open: use 'async with broker', or broker.open()"


def test_a_value_that_has_no_place_is_named() -> None:
    with pytest.raises(BatchRejected) as refused, packing():
        pack_id("42")
    assert str(refused.value) == "a value cannot be stored: '42' is not a UUID"


FIT = Facts(version=(7, 4), clustered=False, policy="noeviction", append_only=True)


@pytest.mark.parametrize(
    ("facts", "durability", "sentence"),
    [
        (
            FIT._replace(version=(6, 0)),
            "server",
            f"{HERE} runs Redis 6.0: aioq needs Redis 6.2 or newer, or Valkey",
        ),
        (
            FIT._replace(append_only=False),
            "fsync",
            f"{HERE}: durability='fsync' waits until the append-only file is on disk, but ",
        ),
        (
            FIT._replace(policy="allkeys-lru"),
            "server",
            f"{HERE} has maxmemory-policy allkeys-lru: when it is full it deletes keys, and jobs "
            f"with them. Set 'maxmemory-policy noeviction', or give "
            f"RedisBroker(allow_eviction=True) to accept the loss",
        ),
    ],
)
def test_a_server_that_would_lose_jobs(facts: Facts, durability: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(facts, HERE, allow_eviction=False, durability=durability, fsync=None)
    assert str(refused.value).startswith(sentence)


def test_a_server_that_may_lose_jobs(caplog: pytest.LogCaptureFixture) -> None:
    facts = FIT._replace(policy="allkeys-lru", append_only=False)
    check(facts, HERE, allow_eviction=True, durability="server", fsync=None)
    assert caplog.messages == [
        f"{HERE} may evict jobs: its maxmemory-policy is allkeys-lru",
        f"{HERE} keeps no append-only file: a restart of Redis loses the jobs since its last "
        f"snapshot, or all of them; set 'appendonly yes'",
    ]


def lease_client() -> RedisLeaseClient:
    broker = RedisBroker(HERE, socket_timeout=1.0)
    script: Any = None
    return RedisLeaseClient(broker._settings, broker._keys, broker._topology, script, lambda: ["q"])


def test_leases_that_could_not_be_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerUnavailable) as refused:
        lease_client().renew([], 0)
    assert str(refused.value) == f"{HERE}: too slow to renew leases"
    monkeypatch.setattr(
        RedisLeaseClient, "_round", lambda self, renewal, queues, *rest: (queues, None)
    )
    with pytest.raises(BrokerUnavailable) as refused:
        lease_client().renew([], 30_000)
    assert str(refused.value) == f"{HERE}: the slots of ['q'] are moving"
