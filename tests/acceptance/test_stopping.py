"""How a worker process ends, and what it leaves behind."""

import signal
import time
from pathlib import Path
from types import ModuleType

import pytest
from acceptance.harness import Fleet, Journal, eventually, promised

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_plain_function_that_sleeps_for_an_hour_does_not_hold_the_exit(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    worker = await fleet.start("--shutdown-timeout", "1")
    job = await jobs.hold.enqueue(3600.0)
    await eventually(lambda: journal.of(job.id) != [], 10)
    worker.signal(signal.SIGTERM)
    asked = time.monotonic()
    assert worker.wait(timeout=10) == 0
    assert time.monotonic() - asked <= promised(1 + 2)
    await job.refresh()
    assert (job.status, job.retries, job.crashes) == ("pending", 0, 0), "given back, not lost"


async def test_running_jobs_end_and_waiting_ones_stay_when_a_worker_is_asked_to_stop(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    worker = await fleet.start("-c", "2", lease=30.0)
    gate = tmp_path / "gate"
    sent = [await jobs.work_until.enqueue(str(gate)) for _ in range(4)]
    await eventually(lambda: len(journal.count("start")) == 2, 10)
    worker.signal(signal.SIGTERM)
    await eventually(lambda: worker.logged("worker.stopping") != [], 5)
    gate.touch()
    assert worker.wait(timeout=10) == 0
    statuses = sorted([(await job.refresh()).status for job in sent])
    assert statuses == ["completed", "completed", "pending", "pending"]


async def test_a_second_signal_leaves_at_once(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    worker = await fleet.start()
    job = await jobs.work.enqueue(60.0)
    await eventually(lambda: journal.of(job.id) != [], 10)
    worker.signal(signal.SIGINT)
    await eventually(lambda: worker.logged("worker.stopping") != [], 5)
    await eventually(lambda: worker.gone_by(signal.SIGTERM), 5)
    assert worker.wait(timeout=2) == 128 + signal.SIGTERM


async def test_a_burst_worker_leaves_when_nothing_is_due(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    due = await jobs.app.enqueue_many([jobs.work.job() for _ in range(20)])
    later = await jobs.work.options(delay=3600).enqueue()
    worker = await fleet.start("--burst")
    assert worker.wait(timeout=10) == 0
    assert [(await job.refresh()).status for job in due] == ["completed"] * 20
    assert (await later.refresh()).status == "scheduled"
