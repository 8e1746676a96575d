"""What stays in the file, and what its numbers say."""

from pathlib import Path
from typing import Any

import pytest

from aioq.plugins import Filter, Settlement
from aioq.testing import FakeClock
from aioq_sqlite import SQLiteBroker


@pytest.mark.parametrize("keep_finished", [60.0, 0.5])
async def test_keep_finished(path: Path, make_hand: Any, keep_finished: float) -> None:
    clock = FakeClock()
    async with SQLiteBroker(path, clock=clock, keep_finished=keep_finished) as broker:
        hand = make_hand(broker)
        await hand.add(30)
        jobs = await hand.take(20)
        await hand.complete(jobs[:15])
        await hand.complete(jobs[15:], result=b"r")
        clock.advance(int(keep_finished * 1000))
        assert (await broker.upkeep(["q"], lease_ms=30_000)).trimmed == 0
        clock.advance(1)
        trimmed = [await broker.upkeep(["q"], lease_ms=30_000, budget=10) for _ in range(3)]
        assert [done.trimmed for done in trimmed] == [10, 5, 0]
        assert [done.more for done in trimmed] == [True, False, False]
        (stats,) = await broker.counts(["q"])
        assert (stats.completed, stats.pending) == (5, 10), "saved results and live jobs stay"


async def test_producers_are_forgotten_after_an_hour(path: Path, make_hand: Any) -> None:
    clock = FakeClock()
    async with SQLiteBroker(path, clock=clock) as broker:
        hand = make_hand(broker)
        (job,) = await hand.add()
        hand._numbers.clear()
        assert (await hand.send([job]))[0].status == "already"
        clock.advance(3_600_001)
        await broker.upkeep(["q"], lease_ms=30_000)
        hand._numbers.clear()
        assert (await hand.send([job]))[0].status == "exists"


async def test_a_clock_set_back_keeps_no_dead_lease(path: Path, make_hand: Any) -> None:
    now = 1_750_000_000_000
    async with SQLiteBroker(path, clock=lambda: now) as broker:
        hand = make_hand(broker)
        await hand.add()
        await broker.upkeep(["q"], lease_ms=30_000)
        await hand.take()
        now -= 3_600_000
        await broker.upkeep(["q"], lease_ms=30_000)
        for _ in range(3):
            now += 10_001
            done = await broker.upkeep(["q"], lease_ms=30_000)
        assert done.rescued == 1


async def test_an_id_used_again_is_listed_once(hand: Any) -> None:
    (job,) = await hand.add()
    await hand.complete(await hand.take())
    assert [answer.status for answer in await hand.send([job, job])] == ["new", "exists"]
    page = await hand.broker.find(Filter(), 10)
    assert [info.status for info in page.jobs] == ["pending"]
    await hand.complete(await hand.take())
    (stats,) = await hand.broker.counts(["q"])
    assert (stats.completed, stats.pending) == (1, 0)


async def test_purge_takes_many(hand: Any) -> None:
    await hand.add(2500)
    jobs = [job for _ in range(6) for job in await hand.take(200)]
    for kind in ("completed", "failed"):
        batch, jobs = jobs[:500], jobs[500:]
        await hand.broker.settle([Settlement(job.token, kind) for job in batch])
    assert await hand.broker.purge("q", "failed") == 500
    assert await hand.broker.purge("q") == 500 + 2500 - 1200
    (stats,) = await hand.broker.counts(["q"])
    assert (stats.running, stats.completed, stats.failed, stats.pending) == (200, 0, 0, 0)
