"""Delays and dates, by the store's clock."""

import time

import pytest

from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit, new_worker

__all__ = ["SchedulingCases"]

YEAR = 365 * 86_400_000


class SchedulingCases(BaseSuite):
    """Promises about *scheduled*."""

    @covers(15)
    async def test_a_delayed_job_is_invisible_before_it_is_due(self, kit: Kit) -> None:
        job = await kit.one(delay_ms=20_000)
        assert await kit.status(job) == "scheduled"
        assert (await kit.stats()).scheduled == 1
        await kit.advance(8_000)
        assert (await kit.upkeep()).promoted == 0, "a job was promoted before it was due"
        assert await kit.claim() == [], "a job was handed out before it was due"
        info = await kit.info(job)
        assert info.run_at_ms - info.enqueued_ms == 20_000

    @covers(16)
    async def test_a_claim_promotes(self, kit: Kit) -> None:
        job = await kit.one(delay_ms=10_000)
        await kit.advance(10_000)
        delivery = await kit.take(job)
        assert delivery.due_ms - delivery.enqueued_ms == 10_000, "due_ms is when it became due"

    @covers(16, "upkeep")
    async def test_upkeep_promotes(self, kit: Kit) -> None:
        job = await kit.one(delay_ms=10_000)
        await kit.advance(10_000)
        assert (await kit.upkeep()).promoted == 1
        assert (await kit.upkeep()).promoted == 0, "upkeep is idempotent"
        assert await kit.status(job) == "pending"
        await kit.take(job)

    @covers(9, 16)
    async def test_a_promoted_job_stands_by_its_due_time(self, kit: Kit) -> None:
        late = await kit.one(delay_ms=30_000)
        soon = await kit.one(delay_ms=10_000)
        await kit.advance(20_000)
        between = await kit.one()
        urgent = await kit.one(delay_ms=20_000, priority=1)
        await kit.advance(20_000)
        order = [delivery.id for delivery in await kit.drain()]
        assert order == [urgent.id, soon.id, between.id, late.id]

    @covers(16, "enqueue")
    async def test_a_date_counts_instead_of_a_delay(self, kit: Kit) -> None:
        (now,) = await kit.add(kit.make(queue="r"))
        past = await kit.one(at_ms=now.at_ms - YEAR, delay_ms=60_000)
        coming = await kit.one(at_ms=now.at_ms + 20_000)
        await kit.take(past)
        assert await kit.status(coming) == "scheduled"
        await kit.advance(20_000)
        await kit.take(coming)

    @covers(9, "enqueue")
    async def test_a_past_date_does_not_jump_the_queue(self, kit: Kit) -> None:
        (now,) = await kit.add(kit.make(queue="r"))
        first = await kit.one()
        await kit.advance(1_000)
        backdated = await kit.one(at_ms=now.at_ms - YEAR)
        order = [delivery.id for delivery in await kit.drain()]
        assert set(order) == {first.id, backdated.id}

    @covers(17)
    async def test_10_000_due_at_once(self, kit: Kit) -> None:
        await kit.enqueue(10_000, delay_ms=10_000)
        await kit.advance(10_000)
        await kit.take()
        assert (await kit.stats()).scheduled >= 8_000, "a claim promotes a bounded number"
        promoted, more = 0, True
        while more:
            done = await kit.upkeep(budget=500)
            assert done.promoted <= 500, "upkeep went above its budget"
            promoted, more = promoted + done.promoted, done.more
        stats = await kit.stats()
        assert (stats.scheduled, stats.pending) == (0, 9_999), "a due job was left behind"

    @covers("upkeep")
    async def test_upkeep_says_when_its_budget_is_used_up(self, kit: Kit) -> None:
        await kit.enqueue(5, delay_ms=1_000)
        await kit.advance(1_000)
        done = await kit.upkeep(budget=3)
        assert (done.promoted, done.more) == (3, True)
        done = await kit.upkeep(budget=100)
        assert (done.promoted, done.more) == (2, False)

    @covers(18)
    async def test_a_claim_tells_the_next_due_time(self, kit: Kit) -> None:
        async def due_in() -> int | None:
            claimed = await kit.broker.claim(["q"], 1, worker=new_worker(), lease_ms=self.lease_ms)
            return claimed.due_in_ms

        assert await due_in() is None
        await kit.one(queue="r", delay_ms=1_000)
        assert await due_in() is None, "the due time of a queue that was not asked for"
        await kit.one(delay_ms=50_000)
        await kit.one(delay_ms=20_000)
        first = await due_in()
        assert first is not None
        assert 5_000 < first <= 20_000
        await kit.advance(5_000)
        then = await due_in()
        assert then is not None
        assert 0 < then <= min(15_000, first - 5_000)

    @covers(20, 83)
    async def test_a_date_far_in_the_future_survives(self, kit: Kit) -> None:
        job = await kit.one(delay_ms=20 * YEAR)
        await kit.advance(self.keep_ms + 86_400_000)
        await kit.upkeep()
        assert await kit.status(job) == "scheduled", "a job that waits does not expire"
        assert await kit.claim() == []

    @covers(83)
    async def test_what_waits_longer_than_every_limit_still_runs(self, kit: Kit) -> None:
        ready = await kit.one()
        scheduled = await kit.one(delay_ms=2 * self.keep_ms)
        await kit.advance(2 * self.keep_ms)
        while (await kit.upkeep()).more:
            pass
        taken = {delivery.id for delivery in await kit.claim()}
        assert taken == {ready.id, scheduled.id}, "a live job has no time to live"

    @needs("server_time")
    @covers(37)
    async def test_a_wrong_client_clock_changes_nothing(
        self, kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, real_ns = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: real() + 3_600)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + 3_600 * 10**9)
        job = await kit.one()
        delayed = await kit.one(delay_ms=600_000)
        delivery = await kit.take(job)
        monkeypatch.undo()
        await kit.upkeep()
        assert await kit.claim() == [], "a client's clock moved a delay or a lease"
        assert await kit.settle(delivery) == "accepted"
        assert await kit.status(delayed) == "scheduled"
