"""What ends the fetcher's rest."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from worker.harness import PATIENCE, FaultyBroker, Log, drain

from aioq import Aarq, Context, Worker, WorkerOptions
from aioq.plugins import Claimed

pytestmark = pytest.mark.both_loops


async def test_a_job_that_ends_while_a_claim_is_on_the_wire_ends_the_rest_after_it(
    app: Aarq, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a burst worker would leave only at its next poll."""
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 600.0)
    ended = anyio.Event()
    claim = broker.claim

    @app.task
    async def work(ctx: Context[Any]) -> None:
        ended.set()

    async def slow_claim(queues: Sequence[str], limit: int, **options: Any) -> Claimed:
        claimed = await claim(queues, limit, **options)
        if not claimed.jobs:
            await ended.wait()
            await anyio.wait_all_tasks_blocked()  # the job is settled and forgotten
        return claimed

    monkeypatch.setattr(broker, "claim", slow_claim)
    await work.enqueue()
    with anyio.fail_after(PATIENCE):
        await Worker(app, WorkerOptions(burst=True)).run()


async def test_a_claim_that_found_nothing_but_knows_of_more_is_asked_again(
    app: Aarq, broker: FaultyBroker
) -> None:
    """A store may have looked in the wrong place first; a burst must not end there."""
    real = broker.claim
    times = 0

    async def claim(*args: Any, **options: Any) -> Claimed:
        nonlocal times
        times += 1
        return Claimed([], more=True) if times <= 2 else await real(*args, **options)

    @app.task
    async def quick(ctx: Context[Any]) -> None: ...

    broker.claim = claim  # type: ignore[method-assign]
    job = await quick.enqueue()
    await drain(app)
    assert (await job.refresh()).status == "completed"


async def test_a_burst_that_leaves_jobs_in_a_paused_queue_says_so(app: Aarq, log: Log) -> None:
    @app.task(queue="mail")
    async def work(ctx: Context[Any]) -> None: ...

    await app.broker.pause_queue("mail")
    await drain(app)
    await work.enqueue()
    await drain(app)
    assert [line["reason"] for line in log.of("worker.stopping")] == [
        "nothing is left to do",
        "nothing is left to do, but in queues that are paused: mail",
    ]


async def test_a_burst_that_ends_takes_nothing_more(app: Aarq, broker: FaultyBroker) -> None:
    """Not even while it looks what is left in paused queues."""
    counting, go, left = anyio.Event(), anyio.Event(), anyio.Event()
    real = broker.counts

    async def counts(queues: Sequence[str] | None = None) -> Any:
        counting.set()
        await go.wait()
        return await real(queues)

    @app.task
    async def quick(ctx: Context[Any]) -> None: ...

    async def burst() -> None:
        await drain(app)
        left.set()

    broker.counts = counts  # type: ignore[method-assign]
    async with app, anyio.create_task_group() as group:
        group.start_soon(burst)
        with anyio.fail_after(PATIENCE):
            await counting.wait()
        claims = broker.calls["claim"]
        job = await quick.enqueue()
        await anyio.wait_all_tasks_blocked()
        go.set()
        with anyio.fail_after(PATIENCE):
            await left.wait()
        assert (broker.calls["claim"], (await job.refresh()).status) == (claims, "pending")
