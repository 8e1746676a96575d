"""Cancel: at once while a job waits, by its worker while it runs."""

import anyio
import pytest

from aioq._broker import BaseBroker
from aioq._records import SettleKind
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit, new_worker, worker_info

__all__ = ["CancelCases"]


class CancelCases(BaseSuite):
    """Promises of ``cancel``."""

    @needs("cancel")
    @covers(46, "cancel")
    async def test_a_waiting_job_is_cancelled_at_once(self, kit: Kit) -> None:
        suspect = await kit.one()
        await kit.crash_times(suspect, 2)
        retrying = await kit.one(priority=9)
        await kit.settle(await kit.take(retrying), "retry", delay_ms=60_000)
        waiting = [suspect, retrying, await kit.one(), await kit.one(delay_ms=60_000)]
        for job in waiting:
            assert await kit.cancel(job) == "cancelled", "what waits is cancelled at once"
            info = await kit.info(job)
            assert (info.status, info.body) == ("cancelled", job.body)
            assert (info.cancel_asked, info.quarantined) == (False, False)
            assert info.completed_ms is not None
            assert await kit.cancel(job) == "finished"
        await kit.advance(120_000)
        await kit.upkeep()
        assert await kit.claim() == [], "a cancelled job was handed out"
        stats = await kit.stats()
        assert (stats.pending, stats.quarantined, stats.cancelled) == (0, 0, 4)

    @needs("cancel")
    @covers("cancel")
    async def test_each_id_is_answered_in_order(self, kit: Kit) -> None:
        done, running, waiting = await kit.enqueue(3)
        await kit.settle(await kit.take(done))
        await kit.take(running)
        absent = kit.make()[0]
        ids = [waiting.id, absent.id, done.id, running.id]
        answers = await kit.broker.cancel(ids)
        assert list(answers) == ["cancelled", "absent", "finished", "asked"]
        assert await kit.status(done) == "completed"

    @needs("cancel")
    @covers(47, "renew")
    async def test_the_worker_hears_of_it_when_it_renews(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        assert await kit.cancel(job) == "asked"
        assert await kit.cancel(job) == "asked", "asking twice is harmless"
        info = await kit.info(job)
        assert (info.status, info.cancel_asked) == ("running", True)
        renewed = await kit.broker.renew([delivery.token], self.lease_ms)
        assert (list(renewed.lost), list(renewed.cancelled)) == ([], [delivery.token])
        assert await kit.settle(delivery, "cancelled") == "accepted"
        info = await kit.info(job)
        assert (info.status, info.cancel_asked) == ("cancelled", False)

    @needs("cancel")
    @covers(47, "hints")
    async def test_a_full_worker_hears_of_it_at_once(self, kit: Kit) -> None:
        if type(kit.broker).hints is BaseBroker.hints:
            pytest.skip("the broker polls instead of pushing hints")
        worker = new_worker()
        job = await kit.one()
        delivery = await kit.take(job, worker=worker)
        heard = anyio.Event()

        async def listen() -> None:
            async for hint in kit.broker.hints(worker_info(worker), lambda: 0):
                if hint.cancel == delivery.token:
                    heard.set()

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await kit.cancel(job)
            with anyio.move_on_after(self.patience):
                await heard.wait()
            group.cancel_scope.cancel()
        assert heard.is_set(), "the worker did not hear of the cancel, though it listened"

    @needs("cancel")
    @covers(48, "settle")
    @pytest.mark.parametrize("kind", ["retry", "snooze", "release"])
    async def test_what_should_be_given_back_is_cancelled(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.cancel(job)
        assert await kit.settle(delivery, kind, delay_ms=1_000, note=b"why") == "accepted"
        info = await kit.info(job)
        assert (info.status, info.note) == ("cancelled", b"why")
        assert await kit.settle(delivery, kind) == "already"
        await kit.advance(1_000)
        assert await kit.claim() == [], "a cancelled job ran again"

    @needs("cancel")
    @covers(49)
    @pytest.mark.parametrize("kind", ["completed", "failed", "dead"])
    async def test_an_end_stays_what_it_is(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.cancel(job)
        assert await kit.settle(delivery, kind) == "accepted"
        assert await kit.status(job) == kind

    @needs("cancel")
    @covers(50)
    async def test_a_crash_ends_it_cancelled(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.take(job)
        await kit.cancel(job)
        done = await kit.crash()
        assert (done.rescued, done.died) == (1, 0)
        info = await kit.info(job)
        assert (info.status, info.crashes) == ("cancelled", 1)
        assert await kit.claim() == []

    @needs("cancel", "requeue")
    @covers(48, 43)
    async def test_a_requeued_job_is_not_cancelled_still(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.cancel(job)
        await kit.settle(delivery, "cancelled")
        await kit.broker.requeue([job.id])
        again = await kit.take(job)
        renewed = await kit.broker.renew([again.token], self.lease_ms)
        assert list(renewed.cancelled) == [], "the wish to cancel outlived the job's end"
        assert await kit.settle(again, "retry") == "accepted"
        assert await kit.status(job) != "cancelled"

    @needs("cancel")
    @covers(51)
    async def test_cancel_races_claim(self, kit: Kit, rival: Kit) -> None:
        for number in range(self.rounds):
            job = await kit.one()
            seen: list[str] = []
            taken: list[bytes] = []

            async def cancel() -> None:
                seen.append(await rival.cancel(job))  # noqa: B023 - ends in its round

            async def claim() -> None:
                taken.extend(item.token for item in await kit.claim(1))  # noqa: B023

            async with anyio.create_task_group() as group:
                for call in (cancel, claim) if number % 2 else (claim, cancel):
                    group.start_soon(call)
            assert (seen, len(taken)) in ((["cancelled"], 0), (["asked"], 1)), (
                "case 51: cancel and claim both won, or neither did"
            )
            for token in taken:
                assert await kit.settle(token, "cancelled") == "accepted"
