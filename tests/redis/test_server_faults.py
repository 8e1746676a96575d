"""What happens to the server: killed, emptied of its scripts, filled up, written into, replaced."""

import asyncio
from collections.abc import Callable

import pytest
import redis
from servers.hands import LEASE_MS, Hand, eventually
from servers.redis import PATIENCE, RedisServer

from aioq.errors import BrokerError, BrokerUnavailable, ConfigurationError
from aioq_redis import RedisBroker
from aioq_redis._packing import pack_id

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_killed_and_restarted_under_load(server: RedisServer, hand: Hand) -> None:
    """Every job the store said it has ends; nothing acknowledged is lost (case 70)."""
    accepted = []
    finished = asyncio.Event()

    async def produce() -> None:
        for _ in range(200):
            accepted.extend(await hand.add(20))
        finished.set()

    async def kill() -> None:
        for number in (1000, 3000):
            await eventually(lambda number=number: len(accepted) >= number)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(kill())
        group.create_task(hand.work(finished.is_set))
    assert hand.failures > 0, "the server was not killed under load"
    assert await hand.statuses(accepted) == {"completed": 4000}
    assert set(hand.ran) == {job.id for job in accepted}
    (stats,) = await hand.broker.counts(["q"])
    assert (stats.completed, stats.pending, stats.running) == (4000, 0, 0), "a job was doubled"


async def test_scripts_flushed_in_the_middle(server: RedisServer, hand: Hand) -> None:
    jobs = await hand.add(50)
    with server.client() as client:
        for _ in range(5):
            client.script_flush()
            taken = await hand.claim(10)
            client.script_flush()
            assert set(await hand.settle(*taken)) == {"accepted"}
        client.script_flush()
        lease_client = hand.broker.for_lease_thread()
        assert not lease_client.renew([], 90_000).lost
        lease_client.close()
    assert await hand.statuses(jobs) == {"completed": 50}


async def test_out_of_memory(new_server: Callable[..., RedisServer]) -> None:
    """A full Redis takes no jobs, says why, and is drained all the same (case 75)."""
    server = new_server(options={"maxmemory": "8mb"})
    with server.client() as client:
        version: str = client.info("server")["redis_version"]
    await _fill_and_drain(server, header=int(version.partition(".")[0]) >= 7)


async def test_out_of_memory_before_redis_7(
    new_server: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same by scripts without a header, as Redis 6.2 gets them."""
    from aioq_redis import _check

    read = _check.Facts.read
    monkeypatch.setattr(
        _check.Facts, "read", classmethod(lambda _, info: read(info)._replace(version=(6, 2)))
    )
    await _fill_and_drain(new_server(options={"maxmemory": "8mb"}), header=False)


async def _fill_and_drain(server: RedisServer, header: bool) -> None:
    async with RedisBroker(server.url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker)
        texts = [script.text for script in broker._session().scripts.by_name.values()]
        assert all(text.startswith(b"#!lua") == header for text in texts)
        stored = []

        async def fill() -> None:
            while True:
                jobs = hand.make(20, body=b"x" * 1000)
                await hand.send(jobs)
                stored.extend(jobs)

        with pytest.raises(BrokerError, match="out of memory") as refused:
            await fill()
        assert not isinstance(refused.value, BrokerUnavailable), "not to be tried for ever"
        assert len(stored) > 100
        async with RedisBroker(server.url, socket_timeout=PATIENCE) as other:
            await other.set_paused("q", True)
            assert not await hand.claim(20)
            await other.set_paused("q", False)
        taken = await hand.claim(20)
        assert len(taken) == 20
        assert set(await hand.settle(*taken[:10])) == {"accepted"}
        assert set(await hand.settle(*taken[10:], kind="retry")) == {"accepted"}
        await broker.upkeep(["q"], lease_ms=2000)
        assert list(await broker.cancel([stored[-1].id])) == ["cancelled"]
        await hand.work(lambda: True)
        assert (await hand.statuses(stored))["completed"] == len(stored) - 1
        assert {answer.status for answer in await hand.send(hand.make(1))} == {"new"}


async def test_garbage_in_the_keys(server: RedisServer, hand: Hand) -> None:
    """Bytes written by hand keep nothing good from being done."""
    good = await hand.add(3)
    (stuck,) = await hand.claim(1)
    waiting = [job for job in good if job.id != stuck.id]
    key = "aioq:1:{aioq.q}:"
    with server.client() as client:
        client.zadd(key + "r", {b"no id": 1, b"g" * 16: 2, b"h" * 16: 3})
        client.hset(key + "j", mapping={b"g" * 16: b"garbage", b"odd": b"x"})
        client.zadd(key + "s", {b"nothing": 1})
        client.zadd(key + "l", {b"lease": 1})
        client.hset(key + "x", mapping={pack_id(waiting[0].id): b"?"})
        client.hset(key + "k", mapping={b"k" * 16: b"?"})
        client.zadd(key + "df", {b"k" * 16: 9e15})
        client.hset(key + "a", mapping={b"producer": b"?"})
        taken = await hand.claim(10)
        assert {job.id for job in waiting} < {job.id for job in taken}
        (wrong,) = [job for job in taken if job.id not in {item.id for item in good}]
        assert (wrong.task, wrong.body) == ("", b"garbage"), "a worker can tell what it is"
        assert set(await hand.settle(*taken, stuck)) == {"accepted"}
        assert await hand.broker.get(["6b6b6b6b-6b6b-6b6b-6b6b-6b6b6b6b6b6b"]) == [None]
        await hand.broker.upkeep(["q"], lease_ms=2000)
        await hand.broker.counts()

        lost = await hand.add(2)
        client.delete(key + "r")
        await hand.broker.upkeep(["q"], lease_ms=2000)
        assert {job.id for job in await hand.claim()} == {job.id for job in lost}

        client.set(key + "r", "text")
        with pytest.raises(BrokerError, match="holds something else"):
            await hand.claim()
        healthy = Hand(hand.broker, "healthy")
        (job,) = await healthy.add(1)
        claimed = await hand.broker.claim(
            ["healthy", "q"], 10, worker=hand.worker, lease_ms=LEASE_MS
        )
        assert [item.id for item in claimed.jobs] == [job.id], "leased, and handed out"
        client.delete(key + "r")
        await hand.add(1)


async def test_promotion_of_a_replica(
    new_server: Callable[..., RedisServer], server: RedisServer
) -> None:
    """What a replica had confirmed survives its promotion; a running job ends once (docs)."""
    replica = new_server(options={"replicaof": ("127.0.0.1", server.port)})
    with replica.client() as client:
        await eventually(lambda: client.info("replication")["master_link_status"] == "up")
        async with RedisBroker(
            server.url, durability="replicated", socket_timeout=PATIENCE
        ) as broker:
            hand = Hand(broker)
            jobs = await hand.add(20)
            running = await hand.claim(5)
        server.kill()
        client.replicaof("NO", "ONE")
        async with RedisBroker(replica.url, socket_timeout=PATIENCE) as broker:
            after = Hand(broker)
            assert "absent" not in await after.statuses(jobs), "a confirmed job was lost"
            assert set(await after.settle(*running)) == {"accepted"}
            await after.work(lambda: True)
            assert await after.statuses(jobs) == {"completed": 20}
            assert not set(after.ran) & {job.id for job in running}


async def test_a_lost_claim_is_completed_once(
    new_server: Callable[..., RedisServer], server: RedisServer
) -> None:
    """A promoted replica that never saw a claim takes its completion, and nobody else runs it."""
    replica = new_server(options={"replicaof": ("127.0.0.1", server.port)})
    async with RedisBroker(server.url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker)
        with replica.client() as client:
            await eventually(lambda: client.info("replication")["master_link_status"] == "up")
            jobs = await hand.add(2)
            with server.client() as primary:
                await eventually(lambda: primary.wait(1, 1000) == 1)
            client.replicaof("NO", "ONE")
        taken = await hand.claim(2)
    async with RedisBroker(replica.url, socket_timeout=PATIENCE) as broker:
        after = Hand(broker)
        (other,) = await after.claim(1)
        answers = dict(zip([job.id for job in taken], await after.settle(*taken), strict=True))
        assert answers.pop(other.id) == "stale", "the same number of another worker"
        assert list(answers.values()) == ["accepted"]
        assert list(await after.settle(other)) == ["accepted"]
        assert await after.statuses(jobs) == {"completed": 2}


async def test_durability_that_cannot_be_had(server: RedisServer) -> None:
    hasty = RedisBroker(server.url, durability="replicated", socket_timeout=1.0)
    hand, said = Hand(hasty), ""
    await hand.insist(hasty.open)
    async with asyncio.timeout(120):
        while "replica did not confirm" not in said:  # a stall may say that there is no answer
            with pytest.raises(BrokerUnavailable) as refused:
                await hand.send(hand.make(1))
            said = str(refused.value)
    await hasty.close()
    fsync = RedisBroker(server.url, durability="fsync", socket_timeout=PATIENCE)
    with server.client() as client:
        if knows_waitaof(client):
            with pytest.raises(ConfigurationError, match="'appendfsync no'"):
                await fsync.open()
            client.config_set("appendfsync", "always")
            async with fsync:
                await Hand(fsync).add(1)
        else:
            with pytest.raises(ConfigurationError, match=r"it takes Redis 7\.2 or newer"):
                await fsync.open()
        client.config_set("appendonly", "no")
        with pytest.raises(ConfigurationError, match="'appendonly no'"):
            await fsync.open()


def knows_waitaof(client: redis.Redis) -> bool:
    try:
        client.execute_command("WAITAOF", 0, 0, 0)
    except redis.ResponseError:
        return False
    return True


async def test_a_replica_takes_no_jobs_and_is_asked_again(
    new_server: Callable[..., RedisServer], server: RedisServer
) -> None:
    """After a failover the old primary is one: that is an outage, not a refusal."""
    replica = new_server(options={"replicaof": ("127.0.0.1", server.port)})
    async with RedisBroker(replica.url, socket_timeout=PATIENCE) as broker:
        with pytest.raises(BrokerUnavailable, match=r"^redis://\S+ this server has become"):
            await Hand(broker).send(Hand(broker).make(1))


async def test_memory_comes_back(server: RedisServer) -> None:
    """Records and results go with their time; what stays are the names and stamps of the queue."""
    offset = 0
    with server.client() as client:
        async with RedisBroker(
            server.url, _clock_offset=lambda: offset, socket_timeout=PATIENCE
        ) as broker:
            hand = Hand(broker)
            await hand.add(1)
            await hand.work(lambda: True)
            offset += 2 * 3_600_000
            await broker.upkeep(["q"], lease_ms=2000)
            before = client.info("memory")["used_memory_dataset"]
            for _ in range(40):
                await hand.add(500)
            await hand.work(lambda: True)
            (stats,) = await broker.counts()
            assert stats.completed == 10_000, "no more records than the limit"
            offset += 2 * 3_600_000
            while (await broker.upkeep(["q"], lease_ms=2000)).more:
                pass
            left = {name.decode() for name in client.scan_iter()}
            assert left <= {"aioq:1:{aioq}:queues", "aioq:1:{aioq.q}:p", "aioq:1:{aioq.q}:w"}
            after = client.info("memory")["used_memory_dataset"]
            assert after - before < 1_000_000


async def test_a_server_that_evicts_is_refused(new_server: Callable[..., RedisServer]) -> None:
    server = new_server(options={"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"})
    with pytest.raises(ConfigurationError, match="maxmemory-policy allkeys-lru"):
        await RedisBroker(server.url, socket_timeout=PATIENCE).open()
    async with RedisBroker(server.url, allow_eviction=True, socket_timeout=PATIENCE) as broker:
        await Hand(broker).add(1)


async def test_a_wrong_password_is_a_matter_of_configuration(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("requirepass", "secret")
    for url, password in ((server.url, None), (server.url, "wrong")):
        broker = RedisBroker(url, password=password, socket_timeout=PATIENCE)
        with pytest.raises(ConfigurationError):
            await broker.open()
    url = server.url.replace("//", "//:secret@")
    async with RedisBroker(url, socket_timeout=PATIENCE) as broker:
        await Hand(broker).add(1)
        assert "secret" not in broker.url
        lease_client = broker.for_lease_thread()
        assert not lease_client.renew([], 90_000).lost
        lease_client.close()


async def test_a_user_without_channels_is_refused(server: RedisServer) -> None:
    """As ``ACL SETUSER`` makes one from Redis 7 on: no wake-up and no wait would ever end."""
    with server.client() as client:
        client.acl_setuser(
            "app", enabled=True, passwords="+secret", keys=["aioq:*"], commands=["+@all"]
        )
        client.execute_command("ACL", "SETUSER", "app", "resetchannels")
        url = server.url.replace("//", "//app:secret@")
        with pytest.raises(ConfigurationError, match=r"'ACL SETUSER <user> &aioq:\*'"):
            await RedisBroker(url, socket_timeout=PATIENCE).open()
        client.execute_command("ACL", "SETUSER", "app", "&aioq:*")
    async with RedisBroker(url, socket_timeout=PATIENCE) as broker:
        hand = Hand(broker)
        (job,) = await hand.add(1)
        waiting = asyncio.create_task(broker.wait_finished(job.id))
        await hand.work(lambda: True)
        info = await waiting
        assert info is not None
        assert info.status == "completed"


async def test_a_socket_file(new_server: Callable[..., RedisServer]) -> None:
    server = new_server(options={"unixsocket": "redis.sock"})
    async with RedisBroker(f"unix://{server.folder}/redis.sock", socket_timeout=PATIENCE) as broker:
        hand = Hand(broker)
        jobs = await hand.add(3)
        await hand.work(lambda: True)
        assert await hand.statuses(jobs) == {"completed": 3}
