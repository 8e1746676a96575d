"""What happens on the way to the server: cut, held up, forgotten; and calls that are cancelled."""

import asyncio

import anyio
import pytest
from acceptance.harness import promised
from servers.hands import Hand, eventually
from servers.proxy import Proxy
from servers.redis import RedisServer

from aioq.errors import BrokerUnavailable
from aioq.plugins import Hint, WorkerInfo
from aioq_redis import RedisBroker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_connections_cut_under_load(proxy: Proxy, hand: Hand, far_hand: Hand) -> None:
    """An enqueue during a cut is stored once, or raises and is stored once when sent again."""
    accepted = []
    finished = asyncio.Event()

    async def produce() -> None:
        for _ in range(300):
            accepted.extend(await far_hand.add(5))
        finished.set()

    async def cut() -> None:
        while not finished.is_set():
            await asyncio.sleep(0.03)
            await asyncio.to_thread(proxy.cut)

    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(cut())
        group.create_task(far_hand.work(finished.is_set))
    assert far_hand.failures > 0, "no connection was cut under load"
    assert await hand.statuses(accepted) == {"completed": 1500}
    (stats,) = await hand.broker.counts(["q"])
    assert stats.completed == 1500, "a job was doubled"


async def test_bytes_held_up(proxy: Proxy, hand: Hand, far_hand: Hand) -> None:
    """A call raises when its time is up; what arrives later is applied once."""
    (job,) = far_hand.make(1)
    await far_hand.add(1)
    await asyncio.to_thread(proxy.hold)
    for _ in range(2):
        with anyio.fail_after(60), pytest.raises(BrokerUnavailable):
            await far_hand.broker.enqueue([job], producer=b"producer", numbers={"q": 1})
    await asyncio.to_thread(proxy.release)
    (answer,) = await far_hand.broker.enqueue([job], producer=b"producer", numbers={"q": 1})
    assert answer.status in ("new", "already")
    (stats,) = await hand.broker.counts(["q"])
    assert stats.pending == 2


async def test_half_open_connections(proxy: Proxy, far_hand: Hand) -> None:
    """Connections that lead nowhere are noticed by their silence, and replaced."""
    await far_hand.add(2)
    (held,) = await far_hand.claim(1)
    lease_client = far_hand.broker.for_lease_thread()
    assert not (await asyncio.to_thread(lease_client.renew, [held.token], 90_000)).lost
    await asyncio.to_thread(proxy.forget)
    (first, *_) = await far_hand.insist(lambda: far_hand.claim(1))
    assert first.id != held.id
    with pytest.raises(BrokerUnavailable):
        await asyncio.to_thread(lease_client.renew, [held.token], 9000)
    assert not (await asyncio.to_thread(lease_client.renew, [first.token], 90_000)).lost
    await asyncio.to_thread(lease_client.close)


async def test_hints_notice_a_half_open_connection(proxy: Proxy, far_hand: Hand) -> None:
    """Both blocking connections have a deadline: the worker hears of it within 10 s."""
    worker = WorkerInfo(far_hand.worker, "host", 1, ("q",), 1, "0")
    with anyio.fail_after(promised(10)):
        with pytest.raises(BrokerUnavailable):
            async for _ in _after_subscribing(far_hand.broker, worker, proxy):
                pass
        await far_hand.add(1)
        async for hint in far_hand.broker.hints(worker, lambda: 1):
            assert hint == Hint("q")
            break


async def _after_subscribing(broker: RedisBroker, worker: WorkerInfo, proxy: Proxy):
    before = proxy.connections

    async def forget() -> None:
        await eventually(lambda: proxy.connections >= before + 2)
        await asyncio.to_thread(proxy.forget)

    task = asyncio.create_task(forget())
    async for hint in broker.hints(worker, lambda: 1):
        yield hint
    await task


async def test_a_wait_survives_nothing_but_says_so(proxy: Proxy, far_hand: Hand) -> None:
    """Who waits for a job hears that the store is gone, and can wait again."""
    (job,) = await far_hand.add(1)
    before = proxy.connections
    waiting = asyncio.create_task(far_hand.broker.wait_finished(job.id))
    await eventually(lambda: proxy.connections > before)
    await asyncio.to_thread(proxy.cut)
    with pytest.raises(BrokerUnavailable):
        await waiting
    waiting = asyncio.create_task(far_hand.broker.wait_finished(job.id))
    await far_hand.work(lambda: True)
    info = await waiting
    assert info is not None
    assert info.status == "completed"


async def test_a_frozen_server(server: RedisServer, proxy: Proxy, far_hand: Hand) -> None:
    """SIGSTOP: calls end in time, and go on when the server does."""
    await far_hand.add(1)
    server.stop()
    try:
        with anyio.fail_after(60), pytest.raises(BrokerUnavailable):
            await far_hand.claim(1)
    finally:
        server.resume()
    # The claim that was not answered may have been carried out: then its lease runs out first.
    await far_hand.insist(lambda: far_hand.claim(1))


async def test_cancelled_calls_shift_no_replies(far_hand: Hand) -> None:
    """Many calls cut off half way; no other call ever gets a reply that was not its own."""
    jobs = await far_hand.add(50)

    async def look(number: int) -> None:
        (info,) = await far_hand.broker.get([jobs[number % 50].id])
        assert info is not None
        assert info.id == jobs[number % 50].id

    async def cut_off(number: int) -> None:
        with anyio.move_on_after(0.0005 * (number % 7)):
            await look(number)

    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(cut_off(number) if number % 2 else look(number))


async def test_no_server_at_all() -> None:
    broker = RedisBroker("redis://127.0.0.1:1")
    with pytest.raises(BrokerUnavailable):
        await broker.open()
    with pytest.raises(BrokerUnavailable):
        await broker.get(["00000000-0000-0000-0000-000000000000"])
