"""Crashes: counted apart from retries, and in the end each suspect alone."""

from aioq._records import Delivery, NewJob
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit

__all__ = ["QuarantineCases"]


class QuarantineCases(BaseSuite):
    """Promises about jobs that kill their worker."""

    @covers(42)
    async def test_the_second_crash_quarantines(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.take(job)
        await kit.crash()
        assert not (await kit.info(job)).quarantined, "the first crash only marks"
        first = await kit.take(job)
        assert not first.quarantined
        await kit.crash()
        info = await kit.info(job)
        assert (info.status, info.crashes, info.quarantined) == ("pending", 2, True)
        stats = await kit.stats()
        assert (stats.pending, stats.quarantined) == (1, 1), "quarantined jobs are pending too"
        assert await kit.claim(quarantined=False) == [], "a worker that holds one gets no second"
        assert (await kit.take(job)).quarantined

    @covers(42, "claim")
    async def test_a_claim_gives_one_suspect_at_most(self, kit: Kit) -> None:
        suspects = await _quarantine(kit, 3)
        await kit.advance(1_000)
        innocent = await kit.enqueue(3)
        taken = await kit.claim(10)
        assert sum(item.quarantined for item in taken) == 1, "one quarantined job per claim"
        assert {job.id for job in innocent} <= {item.id for item in taken}
        assert len(await kit.claim(10, quarantined=False)) == 0
        assert len(await kit.claim(10)) == 1
        assert len(await kit.claim(10)) == 1
        assert (await kit.stats()).running == len(suspects) + len(innocent)

    @covers(42)
    async def test_suspects_keep_their_turn(self, kit: Kit) -> None:
        (suspect,) = await _quarantine(kit, 1)
        await kit.advance(1_000)
        younger = await kit.one()
        assert [item.id for item in await kit.claim(1)] == [suspect.id], "not last, but in its turn"
        (delivery,) = await kit.claim(1)
        assert delivery.id == younger.id

    @covers(42)
    async def test_a_suspect_does_not_overtake(self, kit: Kit) -> None:
        (suspect,) = await _quarantine(kit, 1)
        ahead = await kit.one(priority=60)
        order = [item.id for item in await kit.claim(2)]
        assert order == [ahead.id, suspect.id], "quarantine is no way to the front"

    @covers(42)
    async def test_only_one_suspect_from_several_queues(self, kit: Kit) -> None:
        await _quarantine(kit, 1, queue="q")
        await _quarantine(kit, 1, queue="r")
        taken = await kit.claim(10, queues=["q", "r"])
        assert len(taken) == 1, "one quarantined job per claim, whatever the queues"

    @covers(41, "upkeep")
    async def test_the_last_crash_alone_is_the_end(self, kit: Kit) -> None:
        job = await kit.one()
        for crashes in range(1, kit.broker.max_crashes):
            await kit.take(job)
            done = await kit.crash()
            assert (done.rescued, done.died) == (1, 0)
            info = await kit.info(job)
            assert (info.crashes, info.retries) == (crashes, 0)
            if crashes >= 3:
                assert info.status == "scheduled", "from the third crash on a back-off"
                pause = 10_000 if crashes == 3 else 60_000
                await kit.advance(pause // 10)
                assert await kit.claim() == [], f"a back-off of {pause} ms"
                await kit.advance(pause - pause // 10)
        await kit.take(job)
        done = await kit.crash()
        assert (done.rescued, done.died) == (1, 1)
        info = await kit.info(job)
        assert (info.status, info.crashes) == ("dead", kit.broker.max_crashes)
        assert info.body == job.body, "a dead job can be requeued"
        assert info.completed_ms is not None
        assert await kit.claim() == []

    @covers(41)
    async def test_giving_back_leaves_the_crash_count(self, kit: Kit) -> None:
        (job,) = await _quarantine(kit, 1)
        await kit.settle(await kit.take(job), "release")
        info = await kit.info(job)
        assert (info.crashes, info.quarantined) == (2, True), "back to the place it had"
        await kit.settle(await kit.take(job), "retry", delay_ms=1_000)
        await kit.advance(1_000)
        again = await kit.take(job)
        assert (again.crashes, again.quarantined) == (2, True), "a retry is no way out"
        assert await kit.settle(again) == "accepted"

    @covers(92)
    async def test_a_poison_job_dies_alone(self, kit: Kit) -> None:
        before = await kit.enqueue(100)
        pill = await kit.one()
        after = await kit.enqueue(99)
        for _ in range(100):
            # Four workers, each with what it can carry; the one with the pill dies with all it has.
            hands = [list(await kit.claim(30)) for _ in range(4)]
            for load in hands:
                if pill.id not in {delivery.id for delivery in load}:
                    await kit.complete(load)
            await kit.crash()
            await kit.advance(60_000)
            if not any(hands):
                break
        info = await kit.info(pill)
        assert (info.status, info.crashes) == ("dead", kit.broker.max_crashes)
        stats = await kit.stats()
        assert (stats.dead, stats.completed) == (1, len(before + after)), "an innocent died too"

    @needs("requeue")
    @covers(43, "requeue")
    async def test_a_dead_job_starts_afresh(self, kit: Kit) -> None:
        job = await kit.one()
        old: list[Delivery] = []
        for _ in range(kit.broker.max_crashes):
            old.append(await kit.take(job))
            await kit.crash()
            await kit.advance(60_000)
        assert await kit.status(job) == "dead"
        assert list(await kit.broker.requeue([job.id])) == [True]
        info = await kit.info(job)
        assert (info.status, info.crashes, info.retries) == ("pending", 0, 0)
        assert (info.note, info.quarantined, info.completed_ms) == (None, False, None)
        again = await kit.take(job)
        assert again.number == len(old) + 1, "the delivery number goes on"
        assert (again.body, again.quarantined) == (job.body, False)
        for delivery in old:
            assert await kit.settle(delivery) == "stale", "old tokens stay stale"
        assert await kit.settle(again) == "accepted"

    @needs("requeue")
    @covers(43, "requeue")
    async def test_the_last_token_before_a_requeue_is_stale(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.crash_times(job, kit.broker.max_crashes - 1)
        delivery = await kit.take(job)
        await kit.crash()
        assert await kit.status(job) == "dead"
        assert await kit.settle(delivery) == "stale"
        await kit.broker.requeue([job.id])
        assert await kit.settle(delivery) == "stale", (
            "a delivery that a rescue ended is neither accepted after a requeue nor a re-send"
        )
        assert await kit.status(job) == "pending"


async def _quarantine(kit: Kit, count: int, queue: str = "q") -> list[NewJob]:
    """Jobs that have crashed twice."""
    jobs = await kit.enqueue(count, queue=queue)
    for _ in range(2):
        await kit.claim(count, queues=[queue])
        await kit.crash(queue)
    return jobs
