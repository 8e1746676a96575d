"""What happens on the way to the server: cut, held up, forgotten; and calls that are cancelled."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest
from acceptance.harness import promised
from servers.hands import Hand, eventually
from servers.proxy import Proxy
from servers.redis import PATIENCE, RedisServer

from aioq.errors import BrokerUnavailable
from aioq.plugins import Added, Delivery, Hint, Renewed, WorkerInfo
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


async def test_bytes_held_up(proxy: Proxy, hand: Hand, hasty_hand: Hand) -> None:
    """A call raises when its time is up; what arrives later is applied once."""
    (job,) = hand.make(1)
    await hasty_hand.add(1)

    async def enqueue() -> Sequence[Added]:
        return await hasty_hand.broker.enqueue([job], producer=b"producer", numbers={"q": 1})

    await asyncio.to_thread(proxy.hold)
    for _ in range(2):
        with anyio.fail_after(60), pytest.raises(BrokerUnavailable):
            await enqueue()
    await asyncio.to_thread(proxy.release)
    (answer,) = await hasty_hand.insist(enqueue)
    assert answer.status in ("new", "already")
    (stats,) = await hand.broker.counts(["q"])
    assert stats.pending == 2


async def test_half_open_connections(proxy: Proxy, hasty_hand: Hand) -> None:
    """Connections that lead nowhere are noticed by their silence, and replaced."""
    await hasty_hand.add(100)  # more than claims can be lost on the way back

    async def claim() -> Delivery:
        (held,) = await hasty_hand.insist(lambda: hasty_hand.claim(1))
        return held

    async def renew(held: Delivery, lease_ms: int = 90_000) -> Renewed:
        return await asyncio.to_thread(lease_client.renew, [held.token], lease_ms)

    held = await claim()
    lease_client = hasty_hand.broker.for_lease_thread()
    assert not (await hasty_hand.insist(lambda: renew(held))).lost
    await asyncio.to_thread(proxy.forget)
    first = await claim()
    assert first.id != held.id
    with pytest.raises(BrokerUnavailable):
        await renew(held, 9000)
    assert not (await hasty_hand.insist(lambda: renew(first))).lost
    await asyncio.to_thread(lease_client.close)


@pytest.mark.parametrize("lost", ["the one for work", "the one for cancels"])
async def test_hints_notice_a_half_open_connection(
    server: RedisServer, proxy: Proxy, hasty_hand: Hand, lost: str
) -> None:
    """Either has a deadline of its own: the worker hears of it, and starts anew."""
    worker = WorkerInfo(hasty_hand.worker, "host", 1, ("q",), 1, "0")

    def ports() -> list[int]:
        """Where the connection comes from that the server holds for this purpose."""
        return [
            int(client["addr"].rpartition(":")[2])
            for client in behind.client_list()
            if (client["cmd"] == "bzpopmin" if lost == "the one for work" else client["sub"] == "1")
        ]

    async def first_hint() -> Hint:
        return await anext(hasty_hand.broker.hints(worker, lambda: 1))

    with server.client() as behind:
        while True:  # until no stall has kept it from connecting
            hearing = asyncio.create_task(first_hint())
            await eventually(lambda hearing=hearing: hearing.done() or len(ports()) == 1)
            if not hearing.done():
                break
            assert isinstance(hearing.exception(), BrokerUnavailable)
        await asyncio.to_thread(proxy.forget, ports())
        with anyio.fail_after(promised(10)), pytest.raises(BrokerUnavailable):
            await hearing
    await hasty_hand.add(1)
    assert await hasty_hand.insist(first_hint) == Hint("q")


async def test_a_wait_survives_nothing_but_says_so(proxy: Proxy, far_hand: Hand) -> None:
    """Who waits for a job hears that the store is gone, and can wait again."""
    (job,) = await far_hand.add(1)
    before = proxy.connections
    waits = [asyncio.create_task(far_hand.broker.wait_finished(job.id)) for _ in "12"]
    await eventually(lambda: proxy.connections > before)
    await asyncio.to_thread(proxy.cut)
    first, second = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(first, BrokerUnavailable)
    assert isinstance(second, BrokerUnavailable)
    assert first is not second, "each has notes and a traceback of its own"
    waiting = asyncio.create_task(far_hand.broker.wait_finished(job.id))
    await far_hand.work(lambda: True)
    info = await waiting
    assert info is not None
    assert info.status == "completed"


async def test_a_frozen_server(server: RedisServer, hasty_hand: Hand) -> None:
    """SIGSTOP: calls end in time, and go on when the server does."""
    await hasty_hand.add(1)
    server.stop()
    try:
        with anyio.fail_after(60), pytest.raises(BrokerUnavailable):
            await hasty_hand.claim(1)
    finally:
        server.resume()
    # The claim that was not answered may have been carried out: then its lease runs out first.
    await hasty_hand.insist(lambda: hasty_hand.claim(1))


async def test_a_deadline_counts_the_wait_for_a_connection(server: RedisServer) -> None:
    """However many calls wait for the only one of a frozen server: all end in their own time."""
    hand = Hand(RedisBroker(server.url, socket_timeout=1.0, max_connections=1))
    await hand.insist(hand.broker.open)
    (job,) = await hand.add(1)
    server.stop()
    try:
        with anyio.fail_after(120):  # one after the other they would take 300
            calls = [hand.broker.get([job.id]) for _ in range(300)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        server.resume()
    assert {type(answer) for answer in answers} == {BrokerUnavailable}
    await hand.broker.close()


async def test_who_waits_hears_that_the_broker_was_closed(server: RedisServer) -> None:
    """Also before anything was sent."""
    broker = RedisBroker(server.url, socket_timeout=PATIENCE)
    await broker.open()
    (job,) = await Hand(broker).add(1)
    waiting = asyncio.create_task(broker.wait_finished(job.id))
    await asyncio.sleep(0)
    await broker.close()
    with anyio.fail_after(120), pytest.raises(BrokerUnavailable, match="the broker was closed"):
        await waiting


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
