"""Many connections on the same rows: nobody waits in a circle, nothing is done twice."""

import asyncio
import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from servers.hands import LEASE_MS, Hand

from aioq.plugins import Filter, Settlement
from aioq_postgres import PostgresBroker
from aioq_postgres._upkeep import fold

pytestmark = pytest.mark.anyio

NO_RESCUE_MS = 600_000
"""A lease that outlasts any stall of the machine."""


async def test_everything_at_once_on_the_same_jobs(
    open_broker: Callable[..., Any], dsn: str
) -> None:
    brokers: list[PostgresBroker] = [await open_broker(dsn) for _ in range(3)]
    hands = [Hand(broker) for broker in brokers]
    dice = random.Random(7)
    settled = 0

    async def produce() -> None:
        for _ in range(60):
            await hands[0].add(50)

    async def work(hand: Hand) -> None:
        nonlocal settled
        for _ in range(60):
            claimed = await hand.broker.claim(["q"], 50, worker=hand.worker, lease_ms=NO_RESCUE_MS)
            held = list(claimed.jobs)
            dice.shuffle(held)
            tokens = [job.token for job in held]
            items = [Settlement(token, "completed") for token in tokens[::2]]
            items += [Settlement(token, "retry") for token in tokens[1::2]]
            first, renewed, second, *_ = await asyncio.gather(
                hand.broker.settle(items),
                hand.broker.renew(tokens[::-1], NO_RESCUE_MS),
                hand.broker.settle(items[::-1]),
                hand.broker.cancel([job.id for job in held[::3]]),
                hand.broker.upkeep(["q"], lease_ms=NO_RESCUE_MS),
                hand.broker.delete_where(Filter("q", frozenset({"cancelled"})), 5),
            )
            for answers in zip(first, second[::-1], strict=True):
                # The other copy is a re-send, or stale where the job was handed out again.
                assert answers.count("accepted") == 1, answers
            settled += len(held)
            assert set(renewed.lost) <= set(tokens)

    async with asyncio.timeout(180):
        await asyncio.gather(produce(), *(work(hand) for hand in hands for _ in range(2)))
    assert settled > 1_000


async def test_producers_of_the_same_new_queues(open_broker: Callable[..., Any], dsn: str) -> None:
    brokers: list[PostgresBroker] = [await open_broker(dsn) for _ in range(4)]
    for number in range(20):
        names = [f"{number}-{letter}" for letter in "abcdef"]

        async def send(broker: PostgresBroker, queues: list[str]) -> None:
            hand = Hand(broker)
            jobs = [hand.make(1, queue=queue)[0] for queue in queues]
            numbers = dict.fromkeys(queues, 1)
            producer = uuid4().bytes[:8]
            await broker.enqueue(jobs, producer=producer, numbers=numbers)

        async with asyncio.timeout(60):
            await asyncio.gather(
                *(send(broker, names[:: 1 - 2 * (n % 2)]) for n, broker in enumerate(brokers))
            )
    stats = await brokers[0].counts()
    assert [queue.pending for queue in stats] == [4] * 120


async def test_one_broker_in_two_event_loops(broker: PostgresBroker) -> None:
    def elsewhere() -> int:
        async def run() -> int:
            await broker.open()
            jobs = await Hand(broker).add(3)
            await asyncio.sleep(0.05)  # the bell
            broker._local().pool.terminate()
            await asyncio.sleep(0.01)
            return len(jobs)

        return asyncio.run(run())

    await Hand(broker).add(2)
    assert await asyncio.to_thread(elsewhere) == 3
    assert (await broker.counts(["q"]))[0].pending == 5


async def test_the_tally_is_folded(broker: PostgresBroker, sql: Any, schema: str) -> None:
    hand = Hand(broker)
    for _ in range(10):
        await hand.add(3)
        await hand.settle(*await hand.claim())
    # More than one round folds: as after hours of small batches.
    await sql.execute(
        f"insert into \"{schema}\".tally select 'q', 10, n % 3 - 1 from generate_series(1, 24000) n"
    )
    for _ in range(20):
        await broker.upkeep(["q"], lease_ms=LEASE_MS)
    rows = await sql.fetch(f'select queue, status, number from "{schema}".tally')
    assert [tuple(row) for row in rows] == [("q", 10, 30)]
    await broker.delete_where(Filter("q"), 100)
    assert (await broker.counts(["q"]))[0].completed == 0


async def test_a_tally_of_many_queues_is_not_folded_again_and_again(
    broker: PostgresBroker, sql: Any, schema: str
) -> None:
    await sql.execute(
        f"insert into \"{schema}\".tally select 'q' || n, 10, 1 from generate_series(1, 24000) n"
    )
    assert not await fold(sql, broker._texts)
