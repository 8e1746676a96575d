"""How deliveries end: only by their token, once, each item on its own."""

import anyio
import anyio.lowlevel
import pytest

from aioq._fence import Fence
from aioq._records import SettleKind, Settlement
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit, new_worker

__all__ = ["SettleCases"]

KINDS: tuple[SettleKind, ...] = (
    "completed",
    "failed",
    "cancelled",
    "dead",
    "retry",
    "snooze",
    "release",
)
FINAL = KINDS[:4]
GIVEN_BACK = KINDS[4:]


class SettleCases(BaseSuite):
    """Promises of ``settle``."""

    @covers(25)
    async def test_a_completion_after_a_newer_claim_is_stale(self, kit: Kit) -> None:
        job = await kit.one()
        old = await kit.take(job)
        await kit.crash()
        new = await kit.take(job)
        assert await kit.settle(old, result=b"old") == "stale", (
            "case 25: a late completion overwrote a newer delivery"
        )
        assert await kit.status(job) == "running"
        assert await kit.settle(new, result=b"new") == "accepted"
        assert (await kit.info(job)).result == b"new"
        assert await kit.settle(old, result=b"old") == "stale"
        assert (await kit.info(job)).result == b"new"

    @covers(26)
    @pytest.mark.parametrize("kind", KINDS[1:])
    async def test_any_outcome_after_a_newer_claim_is_stale(
        self, kit: Kit, kind: SettleKind
    ) -> None:
        job = await kit.one()
        old = await kit.take(job)
        await kit.crash()
        new = await kit.take(job)
        before = await kit.info(job)
        assert await kit.settle(old, kind, note=b"late") == "stale"
        assert await kit.info(job) == before, "a stale outcome changes nothing"
        assert await kit.settle(new) == "accepted"

    @covers(27)
    async def test_a_late_completion_is_accepted_once(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.crash()
        assert await kit.settle(delivery, result=b"done") == "accepted", (
            "case 27: the work is done and nobody else has started it"
        )
        assert await kit.settle(delivery, result=b"again") == "already"
        info = await kit.info(job)
        assert (info.status, info.result) == ("completed", b"done")
        assert await kit.claim() == [], "a job completed late ran again"

    @covers(27)
    async def test_a_late_completion_from_quarantine(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.crash_times(job, 1)
        delivery = await kit.take(job)
        await kit.crash()
        assert (await kit.info(job)).quarantined
        assert await kit.settle(delivery) == "accepted"
        stats = await kit.stats()
        assert (stats.pending, stats.quarantined, stats.completed) == (0, 0, 1)

    @covers(28)
    @pytest.mark.parametrize("kind", KINDS[1:])
    async def test_a_late_failure_is_ignored(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.crash()
        before = await kit.info(job)
        assert await kit.settle(delivery, kind, note=b"late") == "stale"
        assert await kit.info(job) == before, "only a completion counts after the rescue"
        assert await kit.settle(delivery) == "accepted", "the completion still counts"

    @covers(29)
    @pytest.mark.parametrize("kind", KINDS)
    async def test_the_number_alone_is_no_fence(self, kit: Kit, kind: SettleKind) -> None:
        # A failover can forget a claim and give the same number to another worker.
        job = await kit.one()
        delivery = await kit.take(job)
        forged = _of_another_worker(delivery.token)
        assert await kit.settle(forged, kind) == "stale", "case 29: same number, another worker"
        renewed = await kit.broker.renew([forged], self.lease_ms)
        assert list(renewed.lost) == [forged]
        assert await kit.status(job) == "running"
        assert await kit.settle(delivery) == "accepted"

    @covers("settle")
    async def test_a_completion_that_the_store_forgot(self, kit: Kit) -> None:
        # The claim was lost in a failover: the store knows only lower delivery numbers.
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.settle(delivery, "release")
        later = _of_a_later_number(delivery.token)
        assert await kit.settle(later, "failed") == "stale", "late completions only"
        assert await kit.settle(later, result=b"done") == "accepted"
        assert await kit.settle(later) == "already"
        assert (await kit.info(job)).result == b"done"

    @covers(30)
    @pytest.mark.parametrize("kind", KINDS)
    async def test_sent_twice(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        assert await kit.settle(delivery, kind, note=b"first") == "accepted"
        before = await kit.info(job)
        assert await kit.settle(delivery, kind, note=b"second") == "already"
        assert await kit.settle(delivery, "completed", result=b"x") == "already", (
            "a completion after the same token ended its delivery is a re-send"
        )
        assert await kit.info(job) == before, "a re-send changes nothing"

    @needs("cancel")
    @covers(30)
    @pytest.mark.parametrize("kind", GIVEN_BACK)
    async def test_sent_twice_with_a_cancel_between(self, kit: Kit, kind: SettleKind) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.settle(delivery, kind)
        assert await kit.cancel(job) == "cancelled"
        assert await kit.settle(delivery, kind) == "already", (
            "a re-send is known for as long as the record is"
        )

    @covers(30)
    @pytest.mark.parametrize("kind", GIVEN_BACK)
    async def test_a_token_that_gave_back_its_job_is_stale_later(
        self, kit: Kit, kind: SettleKind
    ) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.settle(delivery, kind)
        newer = await kit.take(job)
        assert await kit.settle(delivery) != "accepted", "an old token ended a newer delivery"
        assert await kit.status(job) == "running"
        assert await kit.settle(newer) == "accepted"

    @covers(31)
    async def test_a_mixed_batch_is_answered_item_by_item(self, kit: Kit) -> None:
        jobs = await kit.enqueue(8)
        tokens = {item.id: item.token for item in await kit.claim(8)}
        good = [tokens[job.id] for job in jobs]
        await kit.settle(good[7])
        items = [
            Settlement(_of_another_worker(good[0]), "completed"),
            *(Settlement(token, kind) for token, kind in zip(good, KINDS, strict=False)),
            Settlement(good[7], "completed"),
            Settlement(b"no token at all", "failed"),
        ]
        answers = await kit.settle_all(items)
        assert list(answers) == ["stale", *["accepted"] * 7, "already", "stale"]
        statuses = [await kit.status(job) for job in jobs]
        # A retry without delay may pass through the scheduled place.
        assert [*statuses[:4], statuses[7]] == [*FINAL, "completed"]
        assert all(status in ("pending", "retrying", "scheduled") for status in statuses[4:7])

    @covers(99)
    @pytest.mark.parametrize("kind", KINDS)
    async def test_an_id_given_again_is_another_job(self, kit: Kit, kind: SettleKind) -> None:
        worker = new_worker()
        job = await kit.one(check_exists=True)
        first = await kit.take(job, worker=worker)
        await kit.crash()
        second = await kit.take(job, worker=worker)
        await kit.crash()
        third = await kit.take(job)
        assert await kit.settle(third) == "accepted"
        await kit.advance(self.keep_ms + 60_000)
        while (await kit.upkeep()).more:
            pass
        assert await kit.look(job) is None, "case 82: the record is older than it may be"
        assert [added.status for added in await kit.add([job])] == ["new"]

        async def nothing_changes() -> None:
            before = await kit.info(job)
            for old in (first, second, third):
                answer = await kit.settle(old, kind, note=b"late", result=None)
                assert answer == "stale", (
                    "case 99: a delivery of a job that is gone was settled as one of the job that "
                    "got its id"
                )
            tokens = [first.token, second.token, third.token]
            assert list((await kit.broker.renew(tokens, self.lease_ms)).lost) == tokens
            assert await kit.info(job) == before

        await nothing_changes()
        own = await kit.take(job, worker=worker)
        assert own.number == first.number, "the id begins anew"
        await nothing_changes()
        assert await kit.settle(own, "retry") == "accepted"
        await nothing_changes()
        last = await kit.take(job)
        assert await kit.settle(last, result=b"done") == "accepted"
        await nothing_changes()

    @covers("settle")
    async def test_unknown_jobs_are_stale(self, kit: Kit) -> None:
        token = Fence(kit.make()[0].id, 1, new_worker(), 0).pack()
        assert await kit.settle(token) == "stale"
        assert await kit.settle(b"") == "stale"

    @covers(33)
    async def test_rescue_races_settle(self, kit: Kit, rival: Kit) -> None:
        jobs = await kit.enqueue(self.rounds)
        deliveries = await kit.drain()
        await kit.lapse()
        answers: dict[str, str] = {}

        async def settle(start: int) -> None:
            for delivery in deliveries[start::4]:
                answers[delivery.id] = await kit.settle(delivery, "retry", delay_ms=60_000)

        async def rescue() -> None:
            while (await rival.upkeep(budget=1)).rescued:
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(settle, 0)
            group.start_soon(rescue)
            for start in (1, 2, 3):
                group.start_soon(settle, start)
        for job in jobs:
            info = await kit.info(job)
            won = answers[job.id] == "accepted"
            assert (info.retries, info.crashes) == ((1, 0) if won else (0, 1)), (
                "case 33: rescue and settle both moved a job, or neither did"
            )

    @covers(35)
    async def test_release_returns_to_the_front(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.advance(1_000)
        await kit.enqueue(2)
        delivery = await kit.take(job)
        await kit.advance(1_000)
        assert await kit.settle(delivery, "release") == "accepted"
        info = await kit.info(job)
        assert (info.status, info.retries, info.crashes) == ("pending", 0, 0)
        again = await kit.take(job)
        assert (again.number, again.retries, again.crashes) == (2, 0, 0)

    @covers(35)
    async def test_release_with_a_delay_waits(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.settle(await kit.take(job), "release", delay_ms=60_000)
        info = await kit.info(job)
        assert (info.status, info.retries) == ("scheduled", 0)
        assert await kit.claim() == []
        await kit.advance(60_000)
        await kit.take(job)

    @covers(38)
    async def test_a_retry_waits_in_the_store(self, kit: Kit) -> None:
        job = await kit.one()
        assert await kit.settle(await kit.take(job), "retry", delay_ms=20_000) == "accepted"
        info = await kit.info(job)
        assert (info.status, info.retries, info.crashes) == ("retrying", 1, 0)
        stats = await kit.stats()
        assert (stats.retrying, stats.scheduled, stats.running) == (1, 0, 0)
        await kit.advance(8_000)
        assert await kit.claim() == []
        await kit.advance(12_000)
        again = await kit.take(job)
        assert (again.number, again.retries) == (2, 1)
        await kit.settle(again, "retry")
        third = await kit.take(job)
        assert (third.number, third.retries) == (3, 2)

    @covers(39, 79)
    @pytest.mark.parametrize("kind", FINAL)
    async def test_every_end_leaves_a_record(self, kit: Kit, kind: SettleKind) -> None:
        worker = new_worker()
        job = await kit.one(priority=1)
        await kit.advance(1_000)
        delivery = await kit.take(job, worker=worker)
        await kit.advance(1_000)
        assert await kit.settle(delivery, kind, note=b"why") == "accepted"
        info = await kit.info(job)
        assert (info.status, info.note, info.worker_id) == (kind, b"why", worker)
        assert (info.queue, info.task, info.policy) == (job.queue, job.task, job.policy)
        assert (info.priority, info.delivery) == (1, 1)
        assert info.completed_ms is not None
        assert info.started_ms is not None
        assert info.enqueued_ms + 1_000 <= info.started_ms <= info.completed_ms - 1_000
        assert (info.result, info.content_type) == (None, None), "no result unless it is saved"
        kept = None if kind == "completed" else job.body
        assert info.body == kept, "the body goes with a completion and stays otherwise"

    @covers(79, "settle")
    async def test_a_result_is_saved_with_its_type(self, kit: Kit) -> None:
        results = [b"", b"\0\xff", b"x" * 256 * 1024]
        jobs = await kit.enqueue(len(results))
        deliveries = await kit.claim(len(results))
        for delivery, result in zip(deliveries, results, strict=True):
            await kit.settle(delivery, result=result, content_type="a/b", result_ttl_ms=600_000)
        for job, result in zip(jobs, results, strict=True):
            info = await kit.info(job)
            assert (info.result, info.content_type) == (result, "a/b")

    @covers(40)
    async def test_a_snooze_counts_nothing(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.settle(await kit.take(job), "retry")
        await kit.settle(await kit.take(job), "snooze", delay_ms=60_000)
        info = await kit.info(job)
        assert (info.retries, info.crashes) == (1, 0)
        assert await kit.claim() == []
        await kit.advance(60_000)
        again = await kit.take(job)
        assert (again.number, again.retries) == (3, 1)

    @covers("settle")
    async def test_the_note_is_replaced_or_left(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.settle(await kit.take(job), "retry", note=b"one\0")
        again = await kit.take(job)
        assert again.note == b"one\0"
        await kit.settle(again, "retry", note=None)
        third = await kit.take(job)
        assert third.note == b"one\0", "no note leaves the old one"
        await kit.settle(third, "failed", note=b"two")
        assert (await kit.info(job)).note == b"two"

    @covers(38)
    async def test_a_retry_keeps_its_priority(self, kit: Kit) -> None:
        urgent = await kit.one(priority=5)
        await kit.settle(await kit.take(urgent), "retry", delay_ms=1_000)
        await kit.enqueue(3)
        await kit.advance(1_000)
        await kit.take(urgent)

    @covers(38, 83)
    async def test_retries_are_not_forgotten_in_a_long_wait(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.settle(await kit.take(job), "retry", delay_ms=2 * self.keep_ms)
        await kit.advance(self.keep_ms + 60_000)
        await kit.upkeep()
        assert await kit.status(job) == "retrying"


def _of_another_worker(token: bytes) -> bytes:
    """The token another worker would have for the same delivery.

    For brokers whose tokens begin with the first three parts of a ``Fence``; on others it is simply
    an unknown token.
    """
    fence, rest = _parts(token)
    return fence._replace(worker=new_worker()).pack() + rest


def _of_a_later_number(token: bytes) -> bytes:
    fence, rest = _parts(token)
    return fence._replace(number=fence.number + 1, worker=new_worker()).pack() + rest


def _parts(token: bytes) -> tuple[Fence, bytes]:
    size = len(Fence(new_worker(), 1, new_worker(), 0).pack())
    return Fence.unpack(token[:size]), token[size:]
