"""The user's contract: names, statuses, retries, results, the context, enqueues from a task."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio
import pytest
from worker.harness import PATIENCE, FaultyBroker, Log, drain, ended, until, working

from aioq import Aarq, Context, Job, Middleware, Worker
from aioq.middleware import Next, Order, Returned, RunningJob

pytestmark = pytest.mark.both_loops

Ctx = Context[Any]


async def test_a_task_is_found_by_its_name_and_completes(app: Aarq) -> None:
    seen: list[str] = []

    @app.task(name="greet")
    async def greet(ctx: Ctx, message: str) -> None:
        seen.append(message)

    job = await greet.enqueue("hello")
    assert job.status == "pending"
    await drain(app)
    await job.refresh()
    assert (seen, job.status, job.task_name, job.retries) == (["hello"], "completed", "greet", 0)
    assert job.completed_at is not None


async def test_the_context_tells_who_what_and_where(app: Aarq, broker: FaultyBroker) -> None:
    seen: list[Ctx] = []

    @app.task(queue="mail")
    async def look(ctx: Ctx) -> None:
        seen.append(ctx)

    job = await look.enqueue()
    async with working(app) as worker:
        await ended(job)
    (ctx,) = seen
    assert ctx["worker_id"] == worker.id == str(UUID(worker.id))
    assert ctx["job_id"] == job.id
    assert ctx["broker"] is broker
    assert (ctx["app"], ctx["task_name"], ctx["queue"]) == (app, look.name, "mail")
    assert (ctx["attempt"], ctx["retries"], ctx["state"], ctx["headers"]) == (1, 0, None, {})
    assert ctx["enqueued_at"] <= datetime.now(UTC)
    assert (await job.refresh()).worker_id == worker.id


async def test_a_task_enqueues_others(app: Aarq) -> None:
    seen: list[int] = []

    @app.task
    async def child(ctx: Ctx, i: int) -> None:
        seen.append(i)

    @app.task
    async def parent(ctx: Ctx, n: int) -> None:
        for i in range(n):
            await child.enqueue(i)

    await parent.enqueue(5)
    await drain(app)
    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_results_are_saved_where_asked(app: Aarq, broker: FaultyBroker) -> None:
    @app.task(save_result=True, result_ttl=7200)
    async def square(ctx: Ctx, n: int) -> int:
        return n * n

    @app.task
    async def forgetful(ctx: Ctx) -> int:
        return 1

    saved, lost = await square.enqueue(5), await forgetful.enqueue()
    await drain(app)
    job = await broker.get_job(saved.id)
    assert job is not None
    assert job.result == 25
    assert await saved.wait() == 25
    assert (await lost.refresh()).result is None


async def test_each_failure_counts_a_retry_until_none_is_left(app: Aarq) -> None:
    attempts: list[tuple[int, int]] = []

    @app.task(retries=2, retry_delay=0)
    async def flaky(ctx: Ctx) -> None:
        attempts.append((ctx.attempt, ctx.retries))
        raise ValueError("boom")

    job = await flaky.enqueue()
    await drain(app)
    await job.refresh()
    assert attempts == [(1, 0), (2, 1), (3, 2)]
    assert (job.status, job.retries, job.max_retries) == ("failed", 2, 2)
    assert job.error == "ValueError: boom"
    assert 'raise ValueError("boom")' in (job.traceback or "")


async def test_a_failed_job_waits_as_retrying_and_holds_no_slot(app: Aarq) -> None:
    @app.task(retries=1, retry_delay=3600)
    async def flaky(ctx: Ctx) -> None:
        raise ValueError("boom")

    @app.task
    async def good(ctx: Ctx) -> None: ...

    first, second = await flaky.enqueue(), await good.enqueue()
    await drain(app, concurrency=1)
    await first.refresh()
    assert (first.status, first.retries, first.error) == ("retrying", 1, "ValueError: boom")
    assert (await second.refresh()).status == "completed"


async def test_plain_functions_run_in_threads(app: Aarq) -> None:
    @app.task(save_result=True)
    def where(ctx: Ctx) -> int:
        return threading.get_ident()

    job = await where.enqueue()
    await drain(app)
    assert await job.wait() != threading.get_ident()


async def test_plain_functions_run_side_by_side(app: Aarq) -> None:
    together = threading.Barrier(3, timeout=PATIENCE)

    @app.task
    def meet(ctx: Ctx) -> None:
        together.wait()

    jobs = [await meet.enqueue() for _ in range(3)]
    await drain(app, concurrency=3)
    assert {(await job.refresh()).status for job in jobs} == {"completed"}


async def test_a_plain_function_may_raise_stop_iteration(app: Aarq) -> None:
    @app.task
    def stops(ctx: Ctx) -> None:
        raise StopIteration

    job = await stops.enqueue()
    await drain(app)
    assert (await job.refresh()).status == "failed"


async def test_the_lifespan_surrounds_the_jobs(broker: FaultyBroker, log: Log) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Aarq) -> AsyncIterator[dict[str, int]]:
        events.append("up")
        yield {"answer": 42}
        events.append("down")

    app = Aarq(broker, lifespan=lifespan, plugins=False)

    @app.task
    async def use(ctx: Ctx) -> None:
        events.append(f"state {ctx.state['answer']}")

    await use.enqueue()
    await drain(app)
    assert events == ["up", "state 42", "down"]


class Named(Middleware):
    def __init__(self, name: str, events: list[str], order: int = Order.CUSTOM) -> None:
        self.name, self.events, self.order = name, events, order

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        self.events.append(f"{self.name} in")
        try:
            return await call_next(job)
        except Exception as exc:
            self.events.append(f"{self.name} saw {type(exc).__name__}")
            raise
        finally:
            self.events.append(f"{self.name} out")


async def test_middleware_wraps_in_its_order_and_sees_what_is_raised(app: Aarq) -> None:
    events: list[str] = []
    app.use(Named("b", events))
    app.use(Named("c", events))
    app.use(Named("a", events, Order.TRACE))

    @app.task(retries=1, retry_delay=3600)
    async def boom(ctx: Ctx) -> None:
        events.append("task")
        raise KeyError("x")

    await boom.enqueue()
    await drain(app)
    assert events == [
        *("a in", "b in", "c in", "task"),
        *("c saw KeyError", "c out", "b saw KeyError", "b out", "a saw Retry", "a out"),
    ]


async def test_an_exception_of_a_middleware_is_the_jobs(app: Aarq) -> None:
    @app.middleware
    async def refuse(job: RunningJob, call_next: Next) -> Returned:
        raise PermissionError("not today")

    @app.task
    async def never(ctx: Ctx) -> None:
        pytest.fail("ran")

    job = await never.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.error) == ("failed", "PermissionError: not today")


class Observer(Middleware):
    def __init__(self, broker: FaultyBroker, raises: bool = False) -> None:
        self.broker = broker
        self.raises = raises
        self.seen: list[tuple[str, str, str]] = []

    async def settled(self, job: RunningJob, outcome: object) -> None:
        (info,) = await self.broker.get([job.id])
        status = "gone" if info is None else info.status
        self.seen.append((job.id, type(outcome).__name__, status))
        if self.raises:
            raise RuntimeError("an observer's own trouble")


async def test_observers_hear_after_the_store_agreed(app: Aarq, broker: FaultyBroker) -> None:
    observer = app.use(Observer(broker))

    @app.task
    async def good(ctx: Ctx) -> None: ...

    @app.task
    async def bad(ctx: Ctx) -> None:
        raise ValueError

    one = await good.enqueue()
    await drain(app)
    two = await bad.enqueue()
    await drain(app)
    assert observer.seen == [
        (one.id, "Succeeded", "completed"),
        (two.id, "Failed", "failed"),
    ]


async def test_an_observer_that_raises_changes_nothing(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    first, second = Observer(broker, raises=True), Observer(broker)
    app.use(first)
    app.use(second)

    @app.task
    async def good(ctx: Ctx) -> None: ...

    job = await good.enqueue()
    await drain(app)
    assert (await job.refresh()).status == "completed"
    assert len(first.seen) == len(second.seen) == 1
    (line,) = log.of("middleware.error")
    assert line["job_id"] == job.id
    assert "an observer's own trouble" in line["reason"]


async def test_a_slow_observer_is_waited_for_at_the_end(app: Aarq) -> None:
    heard: list[str] = []

    class Slow(Middleware):
        async def settled(self, job: RunningJob, outcome: object) -> None:
            await anyio.sleep(0.1)
            heard.append(job.id)

    app.use(Slow())
    running = anyio.Event()

    @app.task
    async def good(ctx: Ctx) -> None:
        running.set()

    job = await good.enqueue()
    async with working(app, shutdown_timeout=3600):
        await running.wait()
    assert heard == [job.id]


async def test_strict_order_and_turns(broker: FaultyBroker, log: Log) -> None:
    for strict in (True, False):
        app = Aarq(broker, plugins=False)
        order: list[str] = []

        @app.task(queue="low")
        async def low(ctx: Ctx) -> None:
            order.append("low")  # noqa: B023

        @app.task(queue="high")
        async def high(ctx: Ctx) -> None:
            order.append("high")  # noqa: B023

        for _ in range(3):
            await low.enqueue()
            await high.enqueue()
        await drain(app, queues=("high", "low"), strict=strict, concurrency=1)
        if strict:
            assert order == ["high"] * 3 + ["low"] * 3
        else:
            assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:]) == ["high", "low"]


async def test_never_more_at_once_than_the_concurrency(app: Aarq) -> None:
    now = most = 0

    @app.task(retries=1, retry_delay=0)
    async def count(ctx: Ctx, i: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.lowlevel.checkpoint()
        if i % 3 == 0:
            await anyio.sleep(0.001)
        now -= 1
        if i % 5 == 0 and ctx.retries == 0:
            raise ValueError

    jobs = await app.enqueue_many([count.job(i) for i in range(300)])
    await drain(app, concurrency=7)
    assert most == 7
    assert {(await job.refresh()).status for job in jobs} == {"completed"}


async def test_burst_leaves_what_is_not_due(app: Aarq) -> None:
    @app.task
    async def good(ctx: Ctx) -> None: ...

    now, later = await good.enqueue(), await good.options(delay=3600).enqueue()
    await drain(app)
    assert (await now.refresh()).status == "completed"
    assert (await later.refresh()).status == "scheduled"


async def test_burst_does_not_leave_while_a_claim_is_on_the_wire_and_a_job_enqueues(
    app: Aarq, broker: FaultyBroker
) -> None:
    go, done = anyio.Event(), anyio.Event()

    @app.task
    async def child(ctx: Ctx) -> None: ...

    @app.task
    async def parent(ctx: Ctx) -> None:
        await go.wait()
        await child.enqueue()
        done.set()

    await parent.enqueue()
    running = anyio.Event()
    async with anyio.create_task_group() as group:

        async def work() -> None:
            await drain(app)
            running.set()

        group.start_soon(work)
        await until(lambda: broker.calls["claim"] == 2)
        reply = broker.after_claim = anyio.Event()
        broker._wake()
        await until(lambda: broker.calls["claim"] == 3)  # finds nothing; its reply is held back
        go.set()
        await done.wait()
        await until(lambda: broker.calls["settle"] == 1)
        await anyio.wait_all_tasks_blocked()
        broker.after_claim = None
        reply.set()
        await running.wait()
    (stats,) = await broker.queue_stats()
    assert (stats.completed, stats.pending) == (2, 0)


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(
    app: Aarq, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 600.0)

    @app.task
    async def good(ctx: Ctx) -> None: ...

    await broker.pause_queue("default")
    job = await good.enqueue()
    await drain(app)
    assert (await job.refresh()).status == "pending"
    async with working(app):
        # It has found nothing, and listens: before that it would hear of it only by its next poll.
        await until(lambda: broker.calls["claim"] >= 2 and broker._listeners)
        await broker.resume_queue("default")
        await ended(job)


async def test_two_workers_share_the_work(app: Aarq, broker: FaultyBroker) -> None:
    by: set[str] = set()

    @app.task
    async def who(ctx: Ctx) -> None:
        by.add(ctx.worker_id)
        await anyio.sleep(0.01)

    async with working(app, concurrency=1), working(app, concurrency=1):
        jobs = [await who.enqueue() for _ in range(20)]
        for job in jobs:
            await ended(job)
    assert len(by) == 2


async def test_the_registry_knows_the_worker_while_it_runs(app: Aarq, broker: FaultyBroker) -> None:
    async with working(app, concurrency=3) as worker:
        await until(lambda: broker._workers)
        (info,) = await broker.list_workers()
        assert (info.id, info.concurrency, info.queues) == (worker.id, 3, ("default",))
    assert await broker.list_workers() == []


async def test_jobs_of_other_queues_are_left_alone(app: Aarq) -> None:
    @app.task(queue="mine")
    async def mine(ctx: Ctx) -> None: ...

    @app.task(queue="theirs")
    async def theirs(ctx: Ctx) -> None: ...

    left: Job[None] = await theirs.enqueue()
    done: Job[None] = await mine.enqueue()
    await drain(app, queues=("mine",))
    assert (await done.refresh()).status == "completed"
    assert (await left.refresh()).status == "pending"


async def test_a_worker_can_run_again(app: Aarq) -> None:
    @app.task
    async def good(ctx: Ctx) -> None: ...

    worker = Worker(app)
    for _ in range(2):
        job = await good.enqueue()
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await ended(job)
            worker.stop()
