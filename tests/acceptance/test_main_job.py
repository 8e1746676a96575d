"""Two terminals, one store: what users do first."""

import time
from types import ModuleType
from uuid import NAMESPACE_URL, uuid4, uuid5

import pytest
from acceptance.harness import RESCUE, Fleet, Journal, eventually, promised

from aioq.errors import JobExists
from aioq.plugins import NewJob

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_job_enqueued_by_another_process_starts_at_once(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    await fleet.start()
    waits = []
    for n in range(10):
        sent = time.monotonic()
        job = await jobs.square.enqueue(n)
        assert await job.wait(timeout=promised(10)) == n * n
        waits.append(journal.of(job.id)[0].at - sent)
    assert sorted(waits)[len(waits) // 2] <= promised(0.1)


async def test_cancelling_a_running_job_stops_it_within_half_a_second(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    await fleet.start("-c", "1")
    job = await jobs.work.enqueue(60.0)
    await eventually(lambda: journal.of(job.id) != [], 10)
    asked = time.monotonic()
    assert await job.cancel()
    await job.finished(timeout=promised(10))
    assert (job.status, journal.of(job.id, "end")) == ("cancelled", [])
    assert time.monotonic() - asked <= promised(0.5)


async def test_enqueueing_the_same_id_twice_makes_one_job(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    job_id = str(uuid5(NAMESPACE_URL, "order/1"))
    first = await jobs.work.options(job_id=job_id).enqueue()
    with pytest.raises(JobExists, match=job_id):
        await jobs.work.options(job_id=job_id).enqueue()
    await fleet.start()
    await first.finished(timeout=promised(10))
    with pytest.raises(JobExists, match=job_id):
        await jobs.work.options(job_id=job_id).enqueue()
    assert len(journal.of(job_id)) == 1


async def test_bad_messages_end_with_a_reason_and_never_stop_recovery(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    """Each of these kills a worker, or its crash recovery, in some queue."""
    good = jobs.work.job(0.1)
    await jobs.app.enqueue_many([good])
    garbage, newer, unknown, wrong = (str(uuid4()) for _ in range(4))
    policy = b"\x90"
    await jobs.app.broker.enqueue(
        [
            NewJob(garbage, "default", "jobs_app.work", policy, b"\x00\xff garbage"),
            NewJob(newer, "default", "jobs_app.work", policy, b"AQ\x63 from the future"),
            NewJob(unknown, "default", "jobs_app.gone", policy, good_body(b"[[],{}]")),
            NewJob(wrong, "default", "jobs_app.takes_two", policy, good_body(b"[[1],{}]")),
        ],
        producer=b"testtest",
        numbers={"default": 1},
    )
    result = await jobs.bad_result.enqueue()
    worker = await fleet.start("-c", "5", "--unknown-task-grace", "3")
    victims = await jobs.app.enqueue_many([jobs.work.job(0.5) for _ in range(10)])
    await eventually(lambda: len(journal.count("start")) >= 4, 10)
    worker.kill()
    other = await fleet.start("-c", "5", "--unknown-task-grace", "3")
    for job in [good, *victims]:
        await job.finished(timeout=promised(RESCUE + 10))
        assert job.status == "completed"

    async def ended() -> bool:
        found = [await jobs.app.broker.get_job(i) for i in (garbage, newer, unknown, wrong)]
        return all(job.status in ("dead", "failed") for job in found)

    await eventually(ended, 20)
    await result.finished(timeout=promised(5))
    status = {}
    for name, job_id in [("garbage", garbage), ("newer", newer), ("unknown", unknown)]:
        job = await jobs.app.broker.get_job(job_id)
        status[name] = (job.status, job.error)
    assert status["garbage"] == ("dead", "the job's body is not an aioq envelope")
    assert status["newer"][0] == status["unknown"][0] == "dead"
    assert "upgrade the worker" in status["newer"][1]
    assert "the app has no task 'jobs_app.gone'" in status["unknown"][1]
    job = await jobs.app.broker.get_job(wrong)
    assert job.status == "failed"
    assert "missing a required argument: 'second'" in job.error
    assert result.status == "failed"
    assert "cannot be saved" in (result.error or "")
    assert other.process.poll() is None


def good_body(arguments: bytes) -> bytes:
    """A body as the core writes it."""
    from msgspec import msgpack

    return b"AQ\x01" + msgpack.encode(("application/json", arguments, {}))


async def test_ten_thousand_finished_jobs_leave_memory_and_live_rows_where_they_were(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    import psutil

    worker = await fleet.start(lease=30.0)
    process = psutil.Process(worker.pid)

    async def run(count: int) -> int:
        await jobs.app.enqueue_many([jobs.square.job(n) for n in range(count)])

        async def idle() -> bool:
            (stats,) = await jobs.app.broker.queue_stats()
            return bool(stats.pending + stats.running == 0)

        await eventually(idle, 60)
        return process.memory_info().rss

    before = await run(2_000)
    after = await run(10_000)
    (stats,) = await jobs.app.broker.queue_stats()
    assert stats.pending + stats.scheduled + stats.running + stats.retrying == 0
    assert after - before < 15_000_000, f"{(after - before) / 1e6:.1f} MB grown"
