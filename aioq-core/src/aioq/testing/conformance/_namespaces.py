"""Namespaces: apps that share a store never meet."""

from aioq._records import FINISHED, Filter
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit, worker_info

__all__ = ["NamespaceCases"]


class NamespaceCases(BaseSuite):
    """Promises of ``use_namespace``; ``next_door`` is another namespace of the same store."""

    @needs("namespaces")
    @covers(98, "use_namespace", "namespace")
    async def test_a_namespace_is_entered_once(self, kit: Kit, next_door: Kit) -> None:
        assert kit.broker.namespace != next_door.broker.namespace
        next_door.broker.use_namespace(next_door.broker.namespace)

    @needs("namespaces")
    @covers(98)
    async def test_the_same_ids_and_batch_numbers_live_in_both(
        self, kit: Kit, next_door: Kit
    ) -> None:
        jobs = kit.make(3, check_exists=True)
        for side in (kit, next_door):
            answers = await side.send(jobs, b"producer", {"q": 1})
            assert {answer.status for answer in answers} == {"new"}, "nothing of it is known there"
        mine, theirs = await kit.claim(), await next_door.claim()
        assert len(mine) == len(theirs) == 3, "each side has its own jobs"
        await kit.complete(mine)
        assert {await next_door.status(job) for job in jobs} == {"running"}
        await next_door.settle(theirs[0], "failed", note=b"theirs")
        assert {await kit.status(job) for job in jobs} == {"completed"}

    @needs("namespaces")
    @covers(98)
    async def test_nothing_of_a_neighbour_is_seen(self, kit: Kit, next_door: Kit) -> None:
        done, ready, later = await kit.one(), await kit.one(), await kit.one(delay_ms=60_000)
        await kit.complete([await kit.take(done)])
        broker = next_door.broker
        assert list(await broker.get([done.id, ready.id, later.id])) == [None] * 3
        assert list(await broker.counts()) == [], "its queues are unknown"
        assert (await next_door.stats()).pending == 0
        assert list(await next_door.claim()) == []
        assert await broker.wait_finished(ready.id) is None
        assert (await kit.stats()).pending == 1

    @needs("namespaces", "find", "registry")
    @covers(98)
    async def test_nothing_of_a_neighbour_is_listed(self, kit: Kit, next_door: Kit) -> None:
        await kit.one()
        worker = worker_info()
        await kit.broker.beat(worker)
        broker = next_door.broker
        assert list((await broker.find(Filter(), 10)).jobs) == []
        assert list(await broker.workers()) == []
        await broker.forget(worker.id)
        assert [seen.id for seen in await kit.broker.workers()] == [worker.id]

    @needs("namespaces")
    @covers(98)
    async def test_a_delivery_belongs_to_its_namespace(self, kit: Kit, next_door: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        assert await next_door.settle(delivery, "failed") == "stale"
        renewed = await next_door.broker.renew([delivery.token], kit.lease_ms)
        assert list(renewed.lost) == [delivery.token]
        assert await kit.status(job) == "running"

    @needs("namespaces", "cancel", "requeue", "delete")
    @covers(98)
    async def test_a_neighbour_cannot_lay_hands_on_jobs(self, kit: Kit, next_door: Kit) -> None:
        failed, ready = await kit.one(), await kit.one()
        await kit.settle(await kit.take(failed), "failed")
        ids = [failed.id, ready.id]
        broker = next_door.broker
        assert list(await broker.cancel(ids)) == ["absent", "absent"]
        assert list(await broker.requeue(ids)) == [False, False]
        assert list(await broker.delete(ids)) == [False, False]
        for where in (Filter(), Filter(queue="q"), Filter(status=FINISHED, finished_for_ms=0)):
            assert await broker.count_where(where) == 0
            assert await broker.delete_where(where, 10) == 0
        assert [await kit.status(job) for job in (failed, ready)] == ["failed", "pending"]

    @needs("namespaces", "pause")
    @covers(98)
    async def test_a_pause_holds_in_its_namespace(self, kit: Kit, next_door: Kit) -> None:
        for side in (kit, next_door):
            await side.one()
        await kit.broker.set_paused("q", True)
        assert not (await next_door.stats()).paused
        assert len(await next_door.claim()) == 1
        await next_door.broker.set_paused("q", False)
        assert (await kit.stats()).paused
        assert list(await kit.claim()) == []

    @needs("namespaces")
    @covers(98)
    async def test_upkeep_looks_after_its_own(self, kit: Kit, next_door: Kit) -> None:
        held, later = await kit.one(), await kit.one(delay_ms=1)
        await kit.take(held)
        for share in (0, 3, 3, 2):
            # both are at work all the time, so that neither takes the wait for an outage
            await kit.advance(kit.lease_ms * share // 10)
            await next_door.upkeep()
            await kit.upkeep()
        await kit.advance(kit.lease_ms * 3 // 10)
        await next_door.upkeep()
        assert await kit.status(held) == "running", "its lease is the other side's business"
        await kit.upkeep()
        assert (await kit.info(held)).crashes == 1
        assert await kit.status(later) == "pending"
