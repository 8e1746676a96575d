"""Nothing of one job, or of the caller, is seen by the next; nothing grows with finished jobs."""

import asyncio
import gc
import tracemalloc
from contextvars import ContextVar
from typing import Any

import structlog
from worker.harness import FaultyBroker, drain, ended, until, working

from aioq import Aarq, Context, _background
from aioq.backends import MemoryBroker

Ctx = Context[Any]

trace: ContextVar[str] = ContextVar("trace", default="nothing")


async def test_no_job_sees_the_context_of_another_or_of_the_caller(app: Aarq) -> None:
    seen: list[str] = []

    @app.task
    async def look(ctx: Ctx) -> None:
        seen.append(trace.get())
        trace.set(ctx.job_id)
        structlog.contextvars.bind_contextvars(mine=ctx.job_id)
        bound = structlog.contextvars.get_contextvars()
        seen.append("ok" if bound["job_id"] == bound["mine"] == ctx.job_id else str(bound))
        if not ctx.retries:
            await look_plain.enqueue()

    @app.task
    def look_plain(ctx: Ctx) -> None:
        seen.append(trace.get())
        bound = structlog.contextvars.get_contextvars()
        seen.append(
            "ok" if bound.get("job_id") == ctx.job_id and "mine" not in bound else str(bound)
        )
        trace.set("plain")

    trace.set("the caller's span")
    structlog.contextvars.bind_contextvars(caller="yes")
    try:
        for _ in range(5):
            await look.enqueue()
        await drain(app, concurrency=2)
    finally:
        structlog.contextvars.unbind_contextvars("caller")
    assert set(seen) == {"nothing", "ok"}
    assert len(seen) == 20


async def test_ten_thousand_jobs_leave_nothing_behind(log: object) -> None:
    broker = MemoryBroker(max_records=0)
    app = Aarq(broker, plugins=False)

    @app.task(save_result=False)
    async def good(ctx: Ctx, i: int) -> None:
        if i % 50 == 0:
            raise ValueError(i)

    async def run(n: int) -> None:
        await app.enqueue_many([good.job(i) for i in range(n)])
        async with working(app) as worker:
            await until(lambda: not broker._store._running and not _waiting(broker), within=300)
            assert worker._running is not None
            await until(lambda: not len(worker._running.attempts))  # type: ignore[union-attr]
            while (await broker.upkeep(["default"], lease_ms=30_000)).more:
                pass
            assert worker._running._settler.open == 0

    await run(2_000)
    lines = log.lines  # type: ignore[attr-defined]
    lines.clear()
    tasks = len(asyncio.all_tasks())
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        await run(10_000)
        lines.clear()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(asyncio.all_tasks()) == tasks
    assert not _background._running
    assert after - before < 2_000_000


def _waiting(broker: MemoryBroker) -> int:
    queue = broker._store._queues["default"]
    return queue.ready.live + queue.scheduled.live


async def test_a_worker_that_comes_and_goes_leaves_no_task_behind(
    app: Aarq, broker: FaultyBroker
) -> None:
    @app.task(retries=1, retry_delay=0)
    async def flaky(ctx: Ctx) -> None:
        if not ctx.retries:
            raise ValueError

    before = asyncio.all_tasks()
    for _ in range(3):
        async with working(app):
            await ended(await flaky.enqueue())
    assert asyncio.all_tasks() == before
    assert not _background._running
    assert broker._listeners == []
