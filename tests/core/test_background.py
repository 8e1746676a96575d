"""Aioq's own work runs in a context of its own: nothing of the callers, nothing for the jobs."""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import Context, ContextVar
from typing import Any

import anyio
import pytest

from aioq import Aarq, Middleware, Worker, WorkerOptions
from aioq import Context as JobContext
from aioq._background import within
from aioq.backends import MemoryBroker
from aioq.middleware import Next, Returned, RunningJob, current_worker
from aioq.plugins import LeaseClient

MARK: ContextVar[str] = ContextVar("mark", default="nobody's")
CALLS = ["open", "enqueue", "claim", "settle", "upkeep", "beat", "wait_finished"]


class Marked(Middleware):
    def background(self, app: Aarq) -> None:
        MARK.set("aioq's")


class Witness(MemoryBroker):
    """Writes down in which context each of its methods is called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {}
        self.renewed = threading.Event()

    def note(self, name: str) -> None:
        self.seen.setdefault(name, set()).add(MARK.get())

    def for_lease_thread(self) -> LeaseClient:
        self.note("for_lease_thread")
        self.renewed.set()
        return super().for_lease_thread()


def _witnessed(name: str) -> Any:
    method = getattr(MemoryBroker, name)

    async def call(self: Witness, *args: Any, **kwargs: Any) -> Any:
        self.note(name)
        return await method(self, *args, **kwargs)

    return call


for _name in CALLS:
    setattr(Witness, _name, _witnessed(_name))


async def test_its_own_work_is_in_the_context_that_middleware_prepares() -> None:
    broker = Witness()
    app = Aarq(broker, plugins=False)
    app.use(Marked())
    in_job: list[str] = []

    @app.task
    async def look(ctx: JobContext) -> None:
        in_job.append(MARK.get())
        in_job.append(await anyio.to_thread.run_sync(MARK.get))
        await anyio.to_thread.run_sync(broker.renewed.wait, 30)

    MARK.set("the caller's")
    job = await look.enqueue()
    worker = Worker(app, WorkerOptions(lease=0.3))
    running = asyncio.create_task(worker.run())
    await job.finished(timeout=30)
    worker.stop()
    await running
    assert MARK.get() == "the caller's"
    assert in_job == ["nobody's", "nobody's"]
    assert broker.seen == {name: {"aioq's"} for name in [*CALLS, "for_lease_thread"]}


async def test_a_layer_that_breaks_there_is_named_and_does_without() -> None:
    class Broken(Middleware):
        def background(self, app: Aarq) -> None:
            raise ValueError("boom")

    app = Aarq(MemoryBroker(), plugins=False)
    app.use(Broken())
    with pytest.warns(RuntimeWarning, match=r"Broken.* broke in background\(\).*boom"):
        app.freeze()


async def test_code_can_ask_which_worker_it_belongs_to() -> None:
    app = Aarq(MemoryBroker(), plugins=False)
    told: list[Any] = []

    @app.task(queue="q")
    async def look(ctx: JobContext) -> None:
        told.append(current_worker())

    await look.enqueue()
    worker = Worker(app, WorkerOptions(burst=True, concurrency=7))
    await worker.run()
    assert current_worker() is None
    (info,) = told
    assert (info.id, info.queues, info.concurrency) == (worker.id, ("q",), 7)


@pytest.mark.parametrize("asked", ["cancel", "shutdown"])
async def test_a_layer_learns_why_an_attempt_is_stopped(asked: str) -> None:
    app = Aarq(MemoryBroker(), plugins=False)
    reasons: list[tuple[int, int, str | None]] = []
    begun = anyio.Event()

    @app.middleware
    async def learn(job: RunningJob, call_next: Next) -> Returned:
        try:
            return await call_next(job)
        finally:
            reasons.append((job.delivery, job.crashes, job.stop_reason))

    @app.task
    async def endless(ctx: JobContext) -> None:
        begun.set()
        await anyio.sleep_forever()

    job = await endless.enqueue()
    worker = Worker(app, WorkerOptions(shutdown_timeout=0 if asked == "shutdown" else 30))
    running = asyncio.create_task(worker.run())
    with anyio.fail_after(30):
        await begun.wait()
        if asked == "cancel":
            await job.cancel()
            await job.finished()
        worker.stop()
        await running
    assert reasons == [(1, 0, asked)]


# -- within ----------------------------------------------------------------------------------------


@pytest.fixture
def context() -> Context:
    context = Context()
    context.run(MARK.set, "inside")
    return context


async def test_within_awaits_in_the_other_context_and_in_this_task(context: Context) -> None:
    async def look() -> tuple[str, str, bool]:
        task = asyncio.current_task()
        await asyncio.sleep(0)
        child = await asyncio.create_task(later())
        return MARK.get(), child, task is asyncio.current_task()

    async def later() -> str:
        return MARK.get()

    mine = asyncio.current_task()
    assert mine is not None
    assert await within(context, look()) == ("inside", "inside", True)
    assert MARK.get() == "nobody's"


async def test_errors_and_cancels_go_through_within(context: Context) -> None:
    ended: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("boom")

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(MARK.get())

    with pytest.raises(ValueError, match="boom"):
        await within(context, fail())
    with anyio.move_on_after(0) as scope:
        await within(context, wait())
    assert scope.cancelled_caught
    assert ended == ["inside"]


def test_what_is_closed_half_way_is_closed_inside_too(context: Context) -> None:
    closed: list[bool] = []

    class Never:
        def __await__(self) -> Iterator[None]:
            yield

    async def wait() -> None:
        try:
            await Never()
        finally:
            closed.append(True)

    async def outer() -> None:
        await within(context, wait())

    coroutine = outer()
    coroutine.send(None)
    coroutine.close()
    assert closed == [True]
