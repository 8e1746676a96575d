"""How jobs come in: once, whatever the network does."""

import anyio
import pytest

from aioq._ids import new_job_id
from aioq.errors import BatchRejected
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers, needs
from aioq.testing.conformance._tools import Kit

__all__ = ["EnqueueCases"]


class EnqueueCases(BaseSuite):
    """Promises of ``enqueue``."""

    @covers(2, "enqueue")
    async def test_full_batch_is_claimed_once(self, kit: Kit) -> None:
        jobs = kit.make(min(kit.broker.capabilities.max_enqueue, 2_000))
        answers = await kit.add(jobs)
        assert [answer.status for answer in answers] == ["new"] * len(jobs)
        taken = [delivery.id for delivery in await kit.drain()]
        assert len(taken) == len(set(taken)), "a job was handed out twice"
        assert set(taken) == {job.id for job in jobs}, "what was enqueued is what is handed out"

    @covers(4)
    async def test_bytes_come_back(self, kit: Kit) -> None:
        bodies = [b"", b"\0", b"a\0b\xff\xfe", bytes(range(256)) * 1024]
        jobs = [kit.make(body=body, policy=body[:64])[0] for body in bodies]
        await kit.add(jobs)
        for job in jobs:
            info = await kit.info(job)
            assert (info.body, info.policy) == (job.body, job.policy), "get changes bytes"
        for job, delivery in zip(jobs, await kit.drain(), strict=True):
            assert delivery.body == job.body, "claim changes the body"
            assert delivery.policy == job.policy, "claim changes the policy"

    @covers("enqueue", "get")
    async def test_a_new_job_as_it_was_given(self, kit: Kit) -> None:
        job = await kit.one(task="módulo.täsk", priority=-3)
        info = await kit.info(job)
        assert (info.id, info.queue, info.task) == (job.id, job.queue, job.task)
        assert (info.status, info.priority) == ("pending", -3)
        assert (info.delivery, info.retries, info.crashes) == (0, 0, 0)
        assert (info.note, info.result, info.content_type) == (None, None, None)
        assert (info.started_ms, info.completed_ms, info.worker_id) == (None, None, None)
        assert not info.quarantined
        assert not info.cancel_asked
        assert info.enqueued_ms == info.run_at_ms

    @covers(5)
    @pytest.mark.parametrize("state", ["pending", "scheduled", "running", "completed", "failed"])
    async def test_given_id_is_refused_while_known(self, kit: Kit, state: str) -> None:
        delay_ms = 60_000 if state == "scheduled" else 0
        job = await kit.one(check_exists=True, delay_ms=delay_ms)
        if state not in ("pending", "scheduled"):
            delivery = await kit.take(job)
            if state != "running":
                await kit.settle(delivery, "completed" if state == "completed" else "failed")
        before = await kit.info(job)
        (again,) = await kit.add([job._replace(task="other", body=b"other")])
        assert again.status == "exists", f"an id is refused while its job is {state}"
        assert await kit.info(job) == before, "a refused job changes nothing"

    @covers(5)
    async def test_given_id_is_refused_beside_a_settle(self, kit: Kit, rival: Kit) -> None:
        for number in range(self.rounds):
            job = await kit.one(check_exists=True)
            delivery = await kit.take(job)
            statuses: list[str] = []

            async def settle() -> None:
                assert await kit.settle(delivery) == "accepted"  # noqa: B023 - ends in its round

            async def enqueue() -> None:
                (added,) = await rival.add([job])  # noqa: B023 - ends in its round
                statuses.append(added.status)  # noqa: B023 - ends in its round

            async with anyio.create_task_group() as group:
                for call in (settle, enqueue) if number % 2 else (enqueue, settle):
                    group.start_soon(call)
            assert statuses == ["exists"], "an id passed from live to record without a gap"
            assert await kit.status(job) == "completed"

    @covers("enqueue")
    async def test_a_live_id_is_never_stored_twice(self, kit: Kit) -> None:
        (job,) = await kit.enqueue(1)
        answers = await kit.add([job, *kit.make(1)])
        assert [answer.status for answer in answers] == ["exists", "new"]
        assert (await kit.stats()).pending == 2

    @covers(5)
    async def test_the_same_id_twice_in_one_batch(self, kit: Kit) -> None:
        (job,) = kit.make(check_exists=True)
        answers = await kit.add([job, job])
        assert [answer.status for answer in answers] == ["new", "exists"]
        assert len(await kit.drain()) == 1, "one id is one job"

    @covers(6, 85)
    async def test_a_batch_sent_again_is_applied_once(self, kit: Kit) -> None:
        jobs = kit.make(3)
        first = await kit.send(jobs, b"producer", {"q": 1})
        again = await kit.send(jobs, b"producer", {"q": 1})
        assert [answer.status for answer in first] == ["new"] * 3
        assert [answer.status for answer in again] == ["already"] * 3
        assert (await kit.stats()).pending == 3
        await kit.complete(await kit.drain())
        late = await kit.send(jobs, b"producer", {"q": 1})
        assert [answer.status for answer in late] == ["already"] * 3
        assert await kit.claim() == [], "a batch sent again after its jobs finished ran them again"

    @needs("delete")
    @covers(6)
    async def test_a_batch_sent_again_when_its_record_is_gone(self, kit: Kit) -> None:
        (job,) = kit.make()
        await kit.send([job], b"producer", {"q": 1})
        await kit.complete(await kit.drain())
        assert await kit.delete(job)
        (late,) = await kit.send([job], b"producer", {"q": 1})
        assert late.status == "already", "the batch number counts, not the record"
        assert await kit.look(job) is None

    @covers(6)
    async def test_a_batch_number_is_remembered_while_it_may_be_sent_again(self, kit: Kit) -> None:
        (job,) = kit.make()
        await kit.send([job], b"producer", {"q": 7})
        for _ in range(5):
            await kit.advance(600_000)
            await kit.upkeep()
        (late,) = await kit.send(kit.make(), b"producer", {"q": 7})
        assert late.status == "already", "a batch number lives for an hour"

    @covers(85)
    async def test_an_older_number_changes_nothing(self, kit: Kit) -> None:
        first, second = kit.make(2)
        await kit.send([second], b"producer", {"q": 9})
        (late,) = await kit.send([first], b"producer", {"q": 8})
        assert late.status == "already", "a number below the last one has been answered before"
        assert await kit.look(first) is None

    @covers(6, "enqueue")
    async def test_numbers_count_per_producer_and_queue(self, kit: Kit) -> None:
        await kit.send(kit.make(), b"producer", {"q": 5})
        (other_queue,) = await kit.send(kit.make(queue="r"), b"producer", {"r": 1})
        (other_producer,) = await kit.send(kit.make(), b"another!", {"q": 1})
        assert other_queue.status == "new", "each queue has its own numbers"
        assert other_producer.status == "new", "each producer has its own numbers"

    @covers(6, 85)
    async def test_a_batch_of_two_queues_may_be_half_known(self, kit: Kit) -> None:
        await kit.send(kit.make(), b"producer", {"q": 1})
        known, fresh = kit.make(queue="q")[0], kit.make(queue="r")[0]
        answers = await kit.send([known, fresh, known], b"producer", {"q": 1, "r": 1})
        assert [answer.status for answer in answers] == ["already", "new", "already"]
        assert await kit.look(known) is None

    @covers(86, "enqueue")
    async def test_a_batch_is_stored_whole_or_not_at_all(self, kit: Kit) -> None:
        good, bad, other = kit.make(1)[0], kit.make(1, task="nul\0")[0], kit.make(queue="r")[0]
        try:
            answers = await kit.add([good, bad, other])
        except BatchRejected:
            for job in (good, bad, other):
                assert await kit.look(job) is None, "a rejected batch stores nothing"
            assert {answer.status for answer in await kit.add([good, other])} == {"new"}
        else:
            assert {answer.status for answer in answers} == {"new"}
            assert (await kit.info(bad)).task == bad.task, "what is stored is stored as given"

    @covers("enqueue")
    async def test_the_answer_tells_the_stores_time(self, kit: Kit) -> None:
        (first,) = await kit.add(kit.make())
        await kit.advance(10_000)
        (later,) = await kit.add([kit.make()[0]])
        assert later.at_ms - first.at_ms >= 10_000, "at_ms is the store's clock"

    @needs("multi_process")
    @covers("enqueue", "open")
    async def test_what_one_process_stores_another_sees(self, kit: Kit, rival: Kit) -> None:
        job = await kit.one()
        assert await rival.status(job) == "pending"
        delivery = await rival.take(job)
        assert await kit.claim() == [], "two processes were given one job"
        assert await kit.settle(delivery) == "accepted", "a token counts on every connection"

    @covers("open", "close", "url")
    async def test_open_twice_is_harmless(self, kit: Kit) -> None:
        await kit.broker.open()
        assert await kit.look(new_job_id()) is None
        assert "://" in kit.broker.url
