"""What is kept, for how long, and what can be removed."""

import pytest

from aioq._records import FINISHED, Filter, SettleKind
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit

__all__ = ["RetentionCases"]

DAY = 86_400_000


class RetentionCases(BaseSuite):
    """Promises about records, ``requeue`` and ``delete``."""

    async def _tidy(self, kit: Kit, budget: int = 500) -> int:
        trimmed, more = 0, True
        while more:
            done = await kit.upkeep(budget=budget)
            trimmed, more = trimmed + done.trimmed, done.more
        return trimmed

    @covers(64)
    async def test_a_saved_result_lives_as_long_as_asked(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.settle(delivery, result=b"r", content_type="x/y", result_ttl_ms=2 * self.keep_ms)
        await kit.advance(2 * self.keep_ms - 60_000)
        await self._tidy(kit)
        info = await kit.info(job)
        assert (info.status, info.result) == ("completed", b"r"), "a result went before its time"

    @covers(79, 82)
    @pytest.mark.parametrize("kind", ["completed", "failed", "cancelled", "dead"])
    async def test_records_go_after_their_time(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one()
        await kit.settle(await kit.take(job), kind)
        await kit.advance(1_800_000)
        await self._tidy(kit)
        assert await kit.status(job) == kind, "a record went at once"
        await kit.advance(self.keep_ms + DAY)
        await self._tidy(kit)
        assert await kit.look(job) is None, "case 82: finished jobs fill the store for ever"
        stats = await kit.stats()
        assert sum(getattr(stats, status) for status in FINISHED) == 0

    @covers(68)
    async def test_trimming_is_bounded(self, kit: Kit) -> None:
        await kit.enqueue(25)
        for delivery in await kit.claim(25):
            await kit.settle(delivery, "failed")
        live = await kit.one()
        await kit.advance(self.keep_ms + DAY)
        trimmed, more = 0, True
        while more:
            done = await kit.upkeep(budget=10)
            assert done.trimmed <= 10, "upkeep went above its budget"
            trimmed, more = trimmed + done.trimmed, done.more
        assert trimmed == 25
        assert (await kit.stats()).failed == 0
        assert await kit.status(live) == "pending"

    @covers(82, 43)
    @needs("requeue")
    async def test_a_requeued_job_is_not_trimmed(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.settle(await kit.take(job), "failed")
        await kit.broker.requeue([job.id])
        await kit.advance(self.keep_ms + DAY)
        await self._tidy(kit)
        assert await kit.status(job) == "pending", "a live job was trimmed by its old record"

    @needs("requeue")
    @covers(43, "requeue")
    @pytest.mark.parametrize("kind", ["failed", "cancelled", "dead"])
    async def test_requeue(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one(priority=2)
        await kit.settle(await kit.take(job), "retry", note=b"first")
        old = await kit.take(job)
        await kit.settle(old, kind, note=b"second")
        assert list(await kit.broker.requeue([job.id])) == [True]
        info = await kit.info(job)
        assert (info.status, info.retries, info.crashes) == ("pending", 0, 0)
        assert (info.note, info.completed_ms, info.priority) == (None, None, 2)
        assert list(await kit.broker.requeue([job.id])) == [False], "it is live again"
        again = await kit.take(job)
        assert (again.number, again.body, again.policy) == (3, job.body, job.policy)
        assert await kit.settle(old) == "stale"
        assert await kit.settle(again) == "accepted"

    @needs("requeue")
    @covers("requeue")
    async def test_what_cannot_be_requeued(self, kit: Kit) -> None:
        completed, running, waiting = await kit.enqueue(3)
        await kit.settle(await kit.take(completed))
        await kit.take(running)
        absent = kit.make()[0]
        ids = [job.id for job in (completed, running, waiting, absent)]
        assert list(await kit.broker.requeue(ids)) == [False] * 4
        assert await kit.status(completed) == "completed"

    @needs("delete")
    @covers(84, "delete")
    async def test_delete_refuses_what_runs(self, kit: Kit) -> None:
        done, running, waiting = await kit.enqueue(3)
        scheduled = await kit.one(delay_ms=60_000)
        await kit.settle(await kit.take(done))
        delivery = await kit.take(running)
        answers = [await kit.delete(job) for job in (done, running, waiting, scheduled, done)]
        assert answers == [True, False, True, True, False]
        assert await kit.look(waiting) is None
        assert await kit.settle(delivery) == "accepted", "the running job was not touched"
        await kit.advance(60_000)
        assert await kit.claim() == [], "a deleted job was handed out"
        (again,) = await kit.add([done._replace(check_exists=True)])
        assert again.status == "new", "the id of a deleted job is free"

    @needs("delete")
    @covers(84, "delete_where", "count_where")
    async def test_delete_by_filter(self, kit: Kit) -> None:
        jobs = await kit.enqueue(6)
        other = await kit.one(queue="r")
        deliveries = await kit.claim(3)
        await kit.settle(deliveries[0])
        await kit.settle(deliveries[1], "failed")
        kit.ledger.deleted.update(job.id for job in jobs)
        assert await kit.broker.count_where(Filter()) == 6, "all but the running one"
        assert await kit.broker.count_where(Filter("q")) == 5
        assert await kit.broker.count_where(Filter("q", frozenset({"failed", "running"}))) == 1
        assert await kit.broker.count_where(Filter(task="unknown")) == 0
        assert await kit.broker.delete_where(Filter("q", frozenset({"failed"})), 10) == 1
        assert (await kit.stats()).completed == 1, "only what the filter means"
        assert await kit.broker.delete_where(Filter("q"), 2) == 2, "no more than the limit"
        assert await kit.broker.delete_where(Filter("q"), 10) == 2
        assert await kit.broker.delete_where(Filter("q"), 10) == 0
        stats = await kit.stats()
        assert (stats.running, stats.pending, stats.completed) == (1, 0, 0)
        assert await kit.status(other) == "pending"
        assert await kit.settle(deliveries[2]) == "accepted"

    @needs("delete")
    @covers(82, "delete_where")
    async def test_prune_by_age(self, kit: Kit) -> None:
        old, young = await kit.enqueue(2)
        first, then = await kit.claim(2)
        await kit.settle(first, result=b"r", result_ttl_ms=self.keep_ms)
        await kit.advance(1_200_000)
        await kit.settle(then, result=b"r", result_ttl_ms=self.keep_ms)
        where = Filter(status=FINISHED, finished_for_ms=600_000)
        kit.ledger.deleted.add(old.id)
        assert await kit.broker.count_where(where) == 1
        assert await kit.broker.delete_where(where, 10) == 1, "a saved result goes when asked"
        assert await kit.look(old) is None
        assert await kit.status(young) == "completed"
