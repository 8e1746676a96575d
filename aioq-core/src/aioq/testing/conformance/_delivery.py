"""How jobs go out: each once, in order, no more than asked."""

from functools import partial
from math import inf

import anyio

from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit, new_worker, worker_info

__all__ = ["DeliveryCases"]

MINUTE = 60_000


class DeliveryCases(BaseSuite):
    """Promises of ``claim`` and ``hints``."""

    @covers(1, 79)
    async def test_the_life_of_a_job(self, kit: Kit) -> None:
        worker = new_worker()
        job = await kit.one()
        delivery = await kit.take(job, worker=worker)
        running = await kit.info(job)
        assert (running.status, running.worker_id) == ("running", worker)
        assert await kit.settle(delivery) == "accepted"
        record = await kit.info(job)
        assert record.status == "completed", "a completed job leaves a record"
        assert record.completed_ms is not None
        stats = await kit.stats()
        assert (stats.pending, stats.running, stats.completed) == (0, 0, 1)
        assert await kit.claim() == [], "a completed job was handed out again"

    @covers("claim")
    async def test_what_a_delivery_says(self, kit: Kit) -> None:
        worker = new_worker()
        job = await kit.one(priority=2)
        await kit.advance(1_000)
        delivery = await kit.take(job, worker=worker)
        assert (delivery.id, delivery.queue, delivery.task) == (job.id, job.queue, job.task)
        assert (delivery.policy, delivery.body, delivery.note) == (job.policy, job.body, None)
        assert (delivery.number, delivery.retries, delivery.crashes) == (1, 0, 0)
        assert (delivery.priority, delivery.quarantined) == (2, False)
        assert delivery.enqueued_ms == delivery.due_ms
        assert delivery.claimed_ms - delivery.due_ms >= 1_000, "times are the store's"
        info = await kit.info(job)
        assert (info.delivery, info.started_ms) == (1, delivery.claimed_ms)

    @covers(3)
    async def test_an_empty_claim_returns_at_once(self, kit: Kit) -> None:
        fastest = inf
        for _ in range(5):  # one of them should come through, also on a busy machine
            began = anyio.current_time()
            claimed = await kit.broker.claim(
                ["q", "never-used"], 10, worker=new_worker(), lease_ms=self.lease_ms
            )
            fastest = min(fastest, anyio.current_time() - began)
            assert (list(claimed.jobs), claimed.more, claimed.due_in_ms) == ([], False, None)
        assert fastest < min(1.0, self.patience), "a claim waits for jobs"

    @covers(7)
    async def test_no_more_than_asked(self, kit: Kit) -> None:
        await kit.enqueue(10)
        assert len(await kit.claim(3)) == 3
        assert len(await kit.claim(1)) == 1
        assert len(await kit.claim(100)) == 6

    @covers("claim")
    async def test_more_says_that_ready_jobs_remain(self, kit: Kit) -> None:
        await kit.enqueue(3)
        claim = partial(kit.broker.claim, worker=new_worker(), lease_ms=self.lease_ms)
        assert (await claim(["q"], 2)).more
        assert not (await claim(["q"], 2)).more

    @covers(8)
    async def test_bodies_stop_at_max_bytes(self, kit: Kit) -> None:
        await kit.enqueue(5, body=b"x" * 1000)
        assert len(await kit.claim(5, max_bytes=2_500)) == 2, "two bodies fit, a third does not"
        assert len(await kit.claim(5, max_bytes=10)) == 1, "at least one job is returned"
        assert len(await kit.claim(5, max_bytes=2_000)) == 2, "a body that just fits is taken"

    @covers(9)
    async def test_first_in_first_out(self, kit: Kit) -> None:
        first = await kit.enqueue(5)
        await kit.advance(10)
        then = await kit.enqueue(5)
        taken = [delivery.id for delivery in await kit.drain()]
        assert taken == [job.id for job in first + then]

    @covers(9, "enqueue")
    async def test_equal_keys_are_ordered_by_id(self, kit: Kit) -> None:
        jobs = kit.make(5)
        await kit.add(jobs[::-1])
        assert [delivery.id for delivery in await kit.drain()] == [job.id for job in jobs]

    @covers(10)
    async def test_a_priority_is_a_head_start(self, kit: Kit) -> None:
        old = await kit.one()
        await kit.advance(2 * MINUTE)
        one, two, three, late = [(await kit.one(priority=step)) for step in (1, 2, 3, -1)]
        order = [delivery.id for delivery in await kit.drain()]
        # Step 2 stands level with the old job but for the time between two calls.
        assert order[0] == three.id, "three minutes of head start pass a job two minutes old"
        assert set(order[1:3]) == {old.id, two.id}
        assert order[3:] == [one.id, late.id]

    @covers(11)
    async def test_low_priority_is_not_starved(self, kit: Kit) -> None:
        low = await kit.one(priority=0)
        for _ in range(8):
            await kit.enqueue(3, priority=5)
            if low.id in {delivery.id for delivery in await kit.claim(2)}:
                return
            await kit.advance(MINUTE)
        raise AssertionError("five steps of priority held a job back for more than eight minutes")

    @covers(12)
    async def test_queues_are_isolated(self, kit: Kit) -> None:
        here, there = await kit.one(queue="q"), await kit.one(queue="r")
        assert [item.id for item in await kit.claim(queues=["q"])] == [here.id]
        assert [item.id for item in await kit.claim(queues=["r"])] == [there.id]

    @covers(13)
    async def test_queues_are_served_in_the_order_given(self, kit: Kit) -> None:
        first = await kit.enqueue(2, queue="a")
        then = await kit.enqueue(2, queue="b")
        order = [item.id for item in await kit.claim(3, queues=["b", "a"])]
        assert order == [then[0].id, then[1].id, first[0].id]

    @needs("pause")
    @covers(14, "set_paused")
    async def test_a_paused_queue_gives_nothing(self, kit: Kit) -> None:
        await kit.broker.set_paused("q", True)
        job = await kit.one()
        other = await kit.one(queue="r")
        assert (await kit.stats()).paused
        assert [item.id for item in await kit.claim(queues=["q", "r"])] == [other.id]
        await kit.broker.set_paused("q", True)
        await kit.broker.set_paused("q", False)
        assert not (await kit.stats()).paused
        await kit.take(job)

    @needs("pause")
    @covers(14)
    async def test_a_pause_leaves_what_runs(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.broker.set_paused("q", True)
        assert list((await kit.broker.renew([delivery.token], self.lease_ms)).lost) == []
        assert await kit.settle(delivery) == "accepted"

    @covers(21)
    async def test_a_claimed_job_is_not_claimable(self, kit: Kit, rival: Kit) -> None:
        await kit.take(await kit.one())
        assert await kit.claim() == []
        assert await rival.claim() == []

    @covers(2, 21)
    async def test_claimers_at_once_share_the_jobs(self, kit: Kit, rival: Kit) -> None:
        jobs = await kit.enqueue(200)
        taken: list[str] = []

        async def work(hands: Kit) -> None:
            while deliveries := await hands.claim(3):
                taken.extend(delivery.id for delivery in deliveries)

        async with anyio.create_task_group() as group:
            for hands in (kit, rival) * 4:
                group.start_soon(work, hands)
        assert len(taken) == len(jobs), "claims at once lost a job or handed one out twice"
        assert set(taken) == {job.id for job in jobs}

    @covers(19, "hints")
    async def test_new_work_gives_a_hint(self, kit: Kit) -> None:
        await self._expect_hint(kit, delay_ms=0)

    @covers(19)
    async def test_an_earlier_delayed_job_gives_a_hint(self, kit: Kit) -> None:
        await kit.one(delay_ms=MINUTE)
        await self._expect_hint(kit, delay_ms=1_000)

    async def _expect_hint(self, kit: Kit, delay_ms: int) -> None:
        heard = anyio.Event()

        async def listen() -> None:
            async for hint in kit.broker.hints(worker_info(), lambda: 1):
                if hint.cancel is None:
                    heard.set()

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await kit.one(delay_ms=delay_ms)
            with anyio.move_on_after(self.patience):
                await heard.wait()
            group.cancel_scope.cancel()
        assert heard.is_set(), "a free worker heard nothing of new work for several poll intervals"
