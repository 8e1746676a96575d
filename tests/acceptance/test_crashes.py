"""Workers that die or freeze: nothing is lost, nothing stale is believed."""

import signal
import time
from pathlib import Path
from types import ModuleType

import anyio
import pytest
from acceptance.harness import LEASE, RESCUE, Fleet, Journal, eventually, promised

from aioq import Job

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def completed(jobs: ModuleType) -> int:
    return sum(stats.completed for stats in await jobs.app.broker.queue_stats())


def two_hundred(jobs: ModuleType, gate: Path) -> list[Job[None]]:
    """Sixty that end by themselves and more than all slots can hold that run until the gate opens,
    so that whoever is killed before is killed in the midst of its jobs."""
    brief = [jobs.work.job(0.03 + 0.02 * (n % 7)) for n in range(60)]
    return brief + [jobs.work_until.job(str(gate)) for _ in range(140)]


async def test_jobs_of_a_killed_worker_start_again_on_the_other_and_all_complete(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    first = await fleet.start("-c", "10")
    await fleet.start("-c", "10")
    gate = tmp_path / "gate"
    sent = await jobs.app.enqueue_many(two_hundred(jobs, gate))
    await eventually(lambda: len(journal.count("end")) == 60, 20)
    await eventually(lambda: len(journal.running_in(first.pid)) == 10, 20)
    first.kill()
    killed = time.monotonic()
    interrupted = journal.running_in(first.pid)
    gate.touch()

    async def all_done() -> bool:
        return await completed(jobs) == 200

    await eventually(all_done, 30)
    assert set(journal.count("end")) == {job.id for job in sent}
    assert len(interrupted) == 10
    for job_id in interrupted:
        again = min(e.at for e in journal.of(job_id) if e.pid != first.pid)
        assert again - killed <= promised(RESCUE)
    for job in sent:
        assert (await job.refresh()).status == "completed"


async def test_jobs_of_the_only_worker_start_again_once_a_fresh_one_runs(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    first = await fleet.start("-c", "10")
    gate = tmp_path / "gate"
    await jobs.app.enqueue_many(two_hundred(jobs, gate))
    await eventually(lambda: len(journal.count("end")) == 60, 20)
    await eventually(lambda: len(journal.running_in(first.pid)) == 10, 20)
    first.kill()
    interrupted = journal.running_in(first.pid)
    gate.touch()
    await fleet.start("-c", "10")
    fresh = time.monotonic()

    async def all_done() -> bool:
        return await completed(jobs) == 200

    await eventually(all_done, 30)
    assert len(journal.count("end")) == 200
    assert len(interrupted) == 10
    for job_id in interrupted:
        assert max(entry.at for entry in journal.of(job_id)) - fresh <= promised(RESCUE)


async def test_a_frozen_worker_finds_its_late_settle_refused_and_says_so(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    frozen = await fleet.start("--on-lease-lost", "continue")
    gate = tmp_path / "gate"
    job = await jobs.work_until.enqueue(str(gate))
    await eventually(lambda: journal.of(job.id) != [], 10)
    frozen.signal(signal.SIGSTOP)
    other = await fleet.start(lease=30.0)  # that no standstill takes it from this one too
    await eventually(lambda: other.pid in {e.pid for e in journal.of(job.id)}, RESCUE)
    gate.touch()
    await eventually(lambda: other.pid in {e.pid for e in journal.of(job.id, "end")}, 10)
    frozen.signal(signal.SIGCONT)
    await eventually(lambda: frozen.logged("job.stale") != [], 5)
    assert {line["job_id"] for line in frozen.logged("job.stale")} == {job.id}
    await job.finished(timeout=promised(5))
    assert job.status == "completed"
    winner = [e for e in journal.of(job.id) if e.pid == other.pid]
    assert len(winner) == 1, "the other worker ran it once"
    assert other.logged("job.stale") == []


async def test_a_task_that_blocks_the_loop_for_two_leases_is_run_once_and_named(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    worker = await fleet.start()
    await fleet.start()
    job = await jobs.block.enqueue(2 * LEASE)
    await job.finished(timeout=promised(2 * LEASE + 10))
    assert job.status == "completed"
    assert len(journal.of(job.id)) == 1 or journal.stood_still()
    logs = [log for each in fleet.workers for log in each.logged("worker.loop_blocked")]
    named = [log for log in logs if log["job_id"] == job.id]
    assert named or journal.stood_still()
    for log in named:
        assert log["task"] == "jobs_app.block"
        assert "time.sleep(seconds)" in log["stack"]
    assert worker.process.poll() is None


async def test_a_job_that_kills_its_worker_dies_alone(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    innocents = [jobs.work.job(0.2) for _ in range(200)]
    pill = jobs.poison.job()
    await jobs.app.enqueue_many([*innocents[:100], pill, *innocents[100:]])

    async def all_settled() -> bool:
        (stats,) = await jobs.app.broker.queue_stats()
        return bool(stats.dead == 1 and stats.completed == 200)

    async with anyio.create_task_group() as group:

        async def keep_two_running() -> None:
            while True:
                alive = [w for w in fleet.workers if w.process.poll() is None]
                if len(alive) < 2:
                    await fleet.start("-c", "10")
                await anyio.sleep(0.1)

        group.start_soon(keep_two_running)
        await eventually(all_settled, 60)
        group.cancel_scope.cancel()
    starts = len(journal.of(pill.id))
    # a worker that stood still for a lease may have lost it before it began
    assert starts == 3 or (starts in (1, 2) and journal.stood_still())
    await pill.refresh()
    assert (pill.status, pill.error) == ("dead", "its worker died 3 times while it ran")
    for job in innocents:
        assert (await job.refresh()).status == "completed"


async def test_a_retry_delay_holds_no_slot_and_a_kill_during_it_loses_nothing(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    worker = await fleet.start("-c", "1")
    waiting = await jobs.fails_once.enqueue()

    async def retrying() -> bool:
        return bool((await waiting.refresh()).status == "retrying")

    await eventually(retrying, 10)
    other = await jobs.work.enqueue()
    await other.finished(timeout=promised(5))
    worker.kill()
    await waiting.refresh()
    assert (waiting.status, waiting.retries, waiting.max_retries) == ("retrying", 1, 1)
    assert waiting.error == "ValueError: the first attempt fails"
    assert waiting.run_at is not None
    assert waiting.started_at is not None
    assert 59 <= (waiting.run_at - waiting.started_at).total_seconds() <= promised(62)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_workers_killed_in_turn_lose_none_of_two_thousand_jobs(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    """Whatever runs twice was running in a worker when that was killed.

    On servers, which are killed as well, this is ``faults/test_ledger.py``.
    """
    sent = [jobs.work.job(0.01) for _ in range(2_000)]
    for _ in range(3):
        await fleet.start("-c", "5")
    await jobs.app.enqueue_many(sent)
    killed: set[int] = set()
    for kill in range(1, 5):
        progress = kill * 300
        await eventually(lambda least=progress: len(journal.count("end")) >= least, 30)
        victim = next(w for w in fleet.workers if w.process.poll() is None)
        victim.kill()
        killed.add(victim.pid)
        await fleet.start("-c", "5")

    async def all_done() -> bool:
        return await completed(jobs) == 2_000

    await eventually(all_done, 60)
    assert set(journal.count("end")) == {job.id for job in sent}
    told = fleet.lost_leases()
    for job_id, starts in journal.count("start").items():
        if starts > 1:
            *before, last = journal.of(job_id)
            if job_id not in told:
                assert {entry.pid for entry in before} <= killed, "run twice without a crash"
                assert last.pid not in {entry.pid for entry in before}
