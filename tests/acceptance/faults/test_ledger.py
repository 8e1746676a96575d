"""Every accepted job ends, whatever dies; the tasks' own journal is the ledger.

``AIOQ_TEST_LEDGER_JOBS`` sets how many jobs there are: 20 000 take about a minute.
"""

import contextlib
import os
import time
from types import ModuleType

import anyio
import anyio.to_thread
import pytest
from acceptance.harness import LEASE, DidNotStart, Fleet, Journal, eventually
from acceptance.stores import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

JOBS = int(os.environ.get("AIOQ_TEST_LEDGER_JOBS", "3000"))
BATCH = 50
AHEAD = 600
"""Jobs the producer is ahead of the workers, so that the server dies under both."""
KILL_EVERY = 2.0
PROGRESS = 100
"""Jobs that end between two kills; in two seconds on a usual machine it is ten times as many."""
SECONDS = 0.05
CONCURRENCY = 10


async def test_workers_and_the_server_are_killed_and_no_accepted_job_is_lost(
    server: Server, jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    """One of three workers is killed every two seconds, the server once, half way."""
    accepted: set[str] = set()
    killed: set[int] = set()
    began = time.monotonic()
    broker = jobs.app.broker

    async def produce() -> None:
        for _ in range(JOBS // BATCH):
            await eventually(lambda: len(accepted) < len(journal.count("end")) + AHEAD, 60)
            batch = [jobs.work.job(SECONDS) for _ in range(BATCH)]
            await jobs.app.enqueue_many(batch)
            accepted.update(job.id for job in batch)

    async def keep_killing() -> None:
        """Each two seconds, or later where the machine is so slow that nothing would get done."""
        ended = 0
        while True:
            await anyio.sleep(KILL_EVERY)
            serving = fleet.serving()
            while not serving or len(journal.count("end")) < ended + PROGRESS:
                await anyio.sleep(0.05)
                serving = fleet.serving()
            ended = len(journal.count("end"))
            victim = serving[0]
            victim.kill()
            killed.add(victim.pid)
            group.start_soon(replace)

    async def replace() -> None:
        """Beside the next kills. A worker that starts without its server ends, as it should."""
        while True:
            with contextlib.suppress(DidNotStart):
                await fleet.start("-c", str(CONCURRENCY))
                return

    async def dead() -> set[str]:
        """Those that were three times in a worker when it was killed."""
        return {job.id for job in await broker.list_jobs(status="dead")}

    async def all_ended() -> bool:
        ends = journal.count("end")
        if len(accepted) < JOBS or len(ends) < JOBS - 10:
            return False
        return bool(ends.keys() | await dead() == accepted)

    async def nothing_left() -> bool:
        (stats,) = await broker.queue_stats()
        live = stats.pending + stats.scheduled + stats.running + stats.retrying
        return not live + stats.failed + stats.cancelled

    for _ in range(3):
        await fleet.start("-c", str(CONCURRENCY))
    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        group.start_soon(keep_killing)
        await eventually(lambda: len(journal.count("end")) >= JOBS // 2, 30 + JOBS / 100)
        assert len(accepted) < JOBS, "the server dies when nobody enqueues: the test shows less"
        await anyio.to_thread.run_sync(server.kill)
        await anyio.to_thread.run_sync(server.start)
        back = time.monotonic()
        await eventually(all_ended, 30 + JOBS / 100)
        group.cancel_scope.cancel()
    await eventually(nothing_left, 3 * LEASE)

    twice = {job_id for job_id, ends in journal.count("end").items() if ends > 1}
    again = {job_id for job_id, starts in journal.count("start").items() if starts > 1}
    told = fleet.lost_leases()
    for job_id in again:
        *before, _ = journal.of(job_id)
        # The outcome a worker sends while the server dies may be stored or not. Sent again it is
        # refused where the job has gone to another meanwhile: the worker cannot tell the two apart.
        assert job_id in told or all(entry.pid in killed or entry.at < back for entry in before), (
            "it was run again, though its worker was not killed and did not say it lost its lease"
        )
    # Those that had ended were waiting for the store's answer, beside the ones in the slots.
    assert len(again - told - twice) <= len(killed) * CONCURRENCY
    for job_id in await dead():
        assert {entry.pid for entry in journal.of(job_id)} <= killed
    print(
        f"{JOBS} jobs in {time.monotonic() - began:.1f} s, {len(killed)} workers killed, "
        f"{len(again)} jobs started again, {len(twice)} of them after they had ended, "
        f"{len(again & told)} because a living worker had lost its lease, "
        f"{len(await dead())} dead"
    )
