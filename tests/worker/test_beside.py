"""A worker beside other users of its app, in the same process."""

import asyncio

import anyio.to_thread
import pytest
from worker.harness import PATIENCE, ended, until, working

from aioq import Aarq, Context, TaskDef

pytestmark = pytest.mark.both_loops


@pytest.fixture
def task(app: Aarq) -> TaskDef[[int], int]:
    @app.task(name="t", save_result=True)
    async def task(ctx: Context, n: int) -> int:
        return n

    return task


@pytest.fixture
def closed(broker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each time the broker is closed."""
    closed: list[str] = []

    async def close() -> None:
        closed.append("closed")

    monkeypatch.setattr(broker, "close", close)
    return closed


async def test_jobs_that_come_from_other_threads_wake_the_worker(app: Aarq, task, monkeypatch):
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 600.0)
    async with working(app):
        await until(lambda: app.broker._listeners)
        job = await task.enqueue(0)
        assert await job.wait(timeout=PATIENCE) == 0  # it is idle now
        job = await anyio.to_thread.run_sync(task.enqueue_sync, 1)
        assert await job.wait(timeout=PATIENCE) == 1

        def in_a_loop_of_its_own() -> int:
            async def main() -> int:
                return await (await task.enqueue(2)).wait(timeout=PATIENCE)

            return asyncio.run(main())

        assert await anyio.to_thread.run_sync(in_a_loop_of_its_own) == 2


async def test_a_worker_leaves_open_what_was_used_outside_of_it(app: Aarq, task, closed):
    async with working(app):
        job = await task.enqueue(1)
        await ended(job)
    assert closed == []
    await app.close()
    assert closed == ["closed"]


async def test_what_jobs_enqueue_is_the_workers_own(app: Aarq, task, closed):
    children = []

    @app.task(name="parent")
    async def parent(ctx: Context) -> None:
        children.append(await task.enqueue(1))

    await anyio.to_thread.run_sync(parent.enqueue_sync)  # opens it in another loop
    async with working(app):
        await until(lambda: children)
    assert closed == ["closed"]


async def test_a_block_around_a_worker_outlives_it(app: Aarq, task, closed):
    async with app:
        async with working(app):
            await ended(await task.enqueue(1))
        assert closed == []
    assert closed == ["closed"]
