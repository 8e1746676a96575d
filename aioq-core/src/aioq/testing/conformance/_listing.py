"""Looking at jobs: by id, by filter, in pages, in counts; and who works."""

import anyio
import pytest

from aioq._records import STATUSES, Filter, JobInfo, Status
from aioq.errors import InvalidOption
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit, new_worker, worker_info

__all__ = ["ListingCases"]


class ListingCases(BaseSuite):
    """Promises of ``get``, ``find``, ``counts``, ``wait_finished`` and the worker registry."""

    async def _find(self, kit: Kit, where: Filter, limit: int = 100) -> list[JobInfo]:
        found: list[JobInfo] = []
        cursor: str | None = None
        while True:
            page = await kit.broker.find(where, limit, cursor)
            assert len(page.jobs) <= limit, "a page is never longer than asked"
            found += page.jobs
            if page.cursor is None:
                return found
            cursor = page.cursor

    async def _one_of_each(self, kit: Kit) -> dict[Status, str]:
        """A job in every status."""
        jobs: dict[Status, str] = {}
        for kind in ("completed", "failed", "cancelled", "dead"):
            job = await kit.one()
            await kit.settle(await kit.take(job), kind)
            jobs[kind] = job.id
        job = await kit.one()
        await kit.settle(await kit.take(job), "retry", delay_ms=60_000)
        jobs["retrying"] = job.id
        job = await kit.one()
        await kit.take(job)
        jobs["running"] = job.id
        jobs["scheduled"] = (await kit.one(delay_ms=60_000)).id
        jobs["pending"] = (await kit.one()).id
        return jobs

    @covers(87, "get")
    async def test_get_answers_in_order(self, kit: Kit) -> None:
        here, there = await kit.one(queue="q"), await kit.one(queue="r")
        absent = kit.make()[0]
        found = await kit.broker.get([there.id, absent.id, here.id])
        assert [info and (info.id, info.queue) for info in found] == [
            (there.id, "r"),
            None,
            (here.id, "q"),
        ]
        assert list(await kit.broker.get([])) == []

    @covers("counts")
    async def test_counts_by_status(self, kit: Kit) -> None:
        await self._one_of_each(kit)
        stats = await kit.stats()
        assert [getattr(stats, status) for status in STATUSES] == [1] * len(STATUSES)

    @covers("counts")
    async def test_counts_of_all_queues_are_ordered(self, kit: Kit) -> None:
        for queue in ("b", "c", "a"):
            await kit.one(queue=queue)
        assert [stats.queue for stats in await kit.broker.counts()] == ["a", "b", "c"]
        some = await kit.broker.counts(["c", "a"])
        assert [stats.queue for stats in some] == ["a", "c"]
        (empty,) = await kit.broker.counts(["unknown"])
        assert (empty.queue, empty.pending, empty.oldest_due) == ("unknown", 0, None)

    @covers("counts")
    async def test_the_age_of_the_oldest_due_job(self, kit: Kit) -> None:
        job = await kit.one(delay_ms=30_000)
        assert (await kit.stats()).oldest_due is None, "nothing is due yet"
        await kit.advance(30_000)
        await kit.upkeep()
        await kit.advance(5_000)
        age = (await kit.stats()).oldest_due
        assert age is not None
        assert 5 <= age < 30, "seconds since the oldest job became due"
        await kit.take(job)
        assert (await kit.stats()).oldest_due is None, "a running job is not waiting"

    @needs("find")
    @covers(66, "find")
    async def test_a_listing_equals_the_counts(self, kit: Kit) -> None:
        jobs = await self._one_of_each(kit)
        await kit.one(queue="r")
        listed = await self._find(kit, Filter(queue="q"))
        assert {info.status: info.id for info in listed} == jobs
        stats = await kit.stats()
        for status in STATUSES:
            listing = sum(info.status == status for info in listed)
            assert getattr(stats, status) == listing, f"case 66: counts and listing of {status}"
        for status, job_id in jobs.items():
            found = await self._find(kit, Filter(queue="q", status=frozenset({status})))
            assert [info.id for info in found] == [job_id], f"filter by {status}"
            assert found == list(await kit.broker.get([job_id])), "find and get say the same"
        both: frozenset[Status] = frozenset({"failed", "running"})
        assert len(await self._find(kit, Filter(status=both))) == 2

    @needs("find")
    @covers("find")
    async def test_filters(self, kit: Kit) -> None:
        special = await kit.one(task="special")
        await kit.one()
        done, later = await kit.enqueue(2)
        await kit.advance(1)
        assert [info.id for info in await self._find(kit, Filter(task="special"))] == [special.id]
        deliveries = {item.id: item for item in await kit.claim(10)}
        await kit.settle(deliveries[done.id])
        await kit.advance(10_000)
        await kit.settle(deliveries[later.id])
        old = await self._find(kit, Filter(finished_for_ms=10_000))
        assert [info.id for info in old] == [done.id], "only what finished at least so long ago"
        assert len(await self._find(kit, Filter(finished_for_ms=0))) == 2
        assert len(await self._find(kit, Filter())) == 4
        assert await self._find(kit, Filter(queue="unknown")) == []

    @needs("find")
    @covers(67, "find")
    async def test_newest_first_in_pages(self, kit: Kit) -> None:
        jobs = await kit.enqueue(10)
        await kit.complete(await kit.claim(4))
        for limit in (1, 3, 5, 10, 11):
            found = [info.id for info in await self._find(kit, Filter(), limit)]
            assert found == [job.id for job in jobs[::-1]], f"pages of {limit}"

    @needs("find")
    @covers("find")
    @pytest.mark.parametrize("cursor", ["", "nonsense", "0", "\0"])
    async def test_a_cursor_that_is_none_is_refused(self, kit: Kit, cursor: str) -> None:
        await kit.one()
        with pytest.raises(InvalidOption, match="cursor"):
            await kit.broker.find(Filter(), 1, cursor)

    @covers("exists")
    async def test_an_open_store_exists(self, kit: Kit) -> None:
        assert await kit.broker.exists()

    @needs("find")
    @covers(67)
    async def test_pages_are_stable_while_jobs_move(self, kit: Kit) -> None:
        jobs = await kit.enqueue(20)
        held = list(await kit.claim(10))
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await kit.broker.find(Filter(), 3, cursor)
            seen += [info.id for info in page.jobs]
            if page.cursor is None:
                break
            cursor = page.cursor
            await kit.enqueue(1)
            if held:
                await kit.settle(held.pop(0), "completed")
            if held:
                await kit.settle(held.pop(), "retry", delay_ms=60_000)
            await kit.claim(1)
        ours = [job_id for job_id in seen if job_id in {job.id for job in jobs}]
        assert ours == [job.id for job in jobs[::-1]], (
            "case 67: a job that was there throughout appears exactly once, in its place"
        )

    @covers(65, "wait_finished")
    async def test_waiting_for_the_end(self, kit: Kit, rival: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        found: list[JobInfo | None] = []

        async def wait() -> None:
            found.append(await kit.broker.wait_finished(job.id))

        with anyio.fail_after(self.patience):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                assert found == [], "a running job has not finished"
                await rival.settle(delivery, result=b"done")
        assert [info and info.result for info in found] == [b"done"] * 3
        with anyio.fail_after(self.patience):
            again = await kit.broker.wait_finished(job.id)
            assert again == found[0], "what has finished is returned at once"
            assert await kit.broker.wait_finished(kit.make()[0].id) is None

    @needs("cancel")
    @covers(65)
    async def test_waiting_wakes_on_a_cancel(self, kit: Kit) -> None:
        job = await kit.one()
        with anyio.fail_after(self.patience):
            async with anyio.create_task_group() as group:
                group.start_soon(kit.broker.wait_finished, job.id)
                await anyio.wait_all_tasks_blocked()
                await kit.cancel(job)

    @needs("registry")
    @covers("beat", "forget", "workers")
    async def test_the_worker_registry(self, kit: Kit, rival: Kit) -> None:
        one, two = worker_info(), worker_info(new_worker(), "q", "r")
        await kit.broker.beat(one)
        await kit.broker.beat(two)
        await kit.broker.beat(two._replace(running=3, uptime=1.5))
        seen = {worker.id: worker for worker in await rival.broker.workers()}
        assert set(seen) == {one.id, two.id}
        assert seen[two.id]._replace(seen_ago=0.0) == two._replace(running=3, uptime=1.5)
        assert 0 <= seen[one.id].seen_ago < 60
        await kit.broker.forget(one.id)
        await kit.broker.forget(one.id)
        assert [worker.id for worker in await rival.broker.workers()] == [two.id]

    @needs("registry")
    @covers("workers")
    async def test_silent_workers_disappear(self, kit: Kit) -> None:
        await kit.broker.beat(worker_info())
        await kit.advance(61_000)
        assert list(await kit.broker.workers()) == [], "a minute without a beat is too long"
