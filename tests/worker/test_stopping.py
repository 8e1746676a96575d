"""A graceful stop: what has not begun is given back, what runs may end, and nothing holds it up."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from worker.harness import PATIENCE, FaultyBroker, Log, drain, on_asyncio, until, working

from aioq import Aarq, Context, Middleware, Worker
from aioq._wire import Note, decode_note, encode_note
from aioq.backends import MemoryBroker
from aioq.errors import Abort, BrokerUnavailable, Retry, Snooze
from aioq.middleware import RunningJob
from aioq.worker import WorkerOptions
from aioq.worker._signals import stop_on_signals

pytestmark = pytest.mark.both_loops

Ctx = Context[Any]


class Told(Middleware):
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def settled(self, job: RunningJob, outcome: object) -> None:
        self.outcomes.append(type(outcome).__name__)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that end by their cancel are waited for, however long the machine stands still."""
    monkeypatch.setattr("aioq.worker._worker.LAST_RESORT", 120.0)


async def note_of(broker: FaultyBroker, job_id: str) -> Note:
    (info,) = await broker.get([job_id])
    assert info is not None
    return decode_note(info.note)


async def test_a_job_that_ends_in_time_completes(app: Aarq, log: Log) -> None:
    running = anyio.Event()

    @app.task
    async def short(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep(0.1)

    job = await short.enqueue()
    async with working(app, shutdown_timeout=3600) as worker:
        await running.wait()
        worker.stop()
    assert (await job.refresh()).status == "completed"
    (told,) = log.of("worker.stopping")
    assert (told["running"], told["waits"]) == (1, 3600)
    assert "hint" not in told, "it hears no signals"


async def test_a_stop_by_a_signal_tells_that_a_second_one_leaves_at_once(
    app: Aarq, log: Log
) -> None:
    running, done = anyio.Event(), anyio.Event()

    @app.task
    async def patient(ctx: Ctx) -> None:
        running.set()
        await done.wait()

    await patient.enqueue()
    async with working(app, signals=True, shutdown_timeout=3600):
        await running.wait()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: log.of("worker.stopping"))
        done.set()
    (told,) = log.of("worker.stopping")
    assert (told["reason"], told["running"], told["waits"]) == ("SIGTERM", 1, 3600)
    assert told["hint"] == "a second signal leaves at once"


async def test_signals_that_come_together_are_one_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """``timeout`` signals a process and its group; a runner hears Ctrl-C and sends SIGTERM."""
    now, heard = 100.0, 0

    def clock() -> float:
        nonlocal heard
        heard += 1
        return now

    monkeypatch.setattr("aioq.worker._signals.monotonic", clock)
    stops: list[str] = []
    left: list[int] = []
    with stop_on_signals(stops.append, left.append):
        for count, (number, wait) in enumerate(
            [(signal.SIGINT, 0.4), (signal.SIGTERM, 0.2), (signal.SIGINT, 0.0)], 1
        ):
            assert left == []
            signal.raise_signal(number)
            await until(lambda count=count: heard == count)
            now += wait
    assert (stops, left) == (["SIGINT"], [128 + signal.SIGINT])


async def test_a_job_that_does_not_is_given_back(app: Aarq, broker: FaultyBroker) -> None:
    told = app.use(Told())
    running = anyio.Event()

    @app.task(retries=0)
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    job = await long.enqueue()
    for interruption in (1, 2):
        running = anyio.Event()
        async with working(app, shutdown_timeout=0.1):
            await running.wait()
        await job.refresh()
        assert (job.status, job.retries, job.crashes) == ("pending", 0, 0)
        assert (await note_of(broker, job.id)).interruptions == interruption
    assert told.outcomes == ["Released"] * 2


async def test_a_job_that_is_interrupted_for_ever_dies(app: Aarq, broker: FaultyBroker) -> None:
    running = anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    job = await long.enqueue()
    broker._store._rows[job.id].note = encode_note(Note(interruptions=20))
    async with working(app, shutdown_timeout=0):
        await running.wait()
    await job.refresh()
    assert job.status == "dead"
    assert "20 stopping workers" in (job.error or "")


async def test_a_plain_function_does_not_hold_the_stop(app: Aarq, broker: FaultyBroker) -> None:
    running, go = threading.Event(), threading.Event()

    @app.task
    def long(ctx: Ctx) -> None:
        running.set()
        go.wait()

    job = await long.enqueue()
    try:
        async with working(app, shutdown_timeout=0.3) as worker:
            await until(running.is_set)
        assert worker.abandoned == 1
        assert (await job.refresh()).status == "pending"
        assert (await note_of(broker, job.id)).interruptions == 1
    finally:
        go.set()
    await until(lambda: worker.abandoned == 0)


@on_asyncio
async def test_a_task_that_ignores_its_cancellation_is_given_back_once(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    told = app.use(Told())
    running, go, over = anyio.Event(), anyio.Event(), anyio.Event()

    @app.task
    async def deaf(ctx: Ctx) -> None:
        running.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        over.set()

    job = await deaf.enqueue()
    async with working(app, shutdown_timeout=0.1):
        await running.wait()
    assert (await job.refresh()).status == "pending"
    assert (await note_of(broker, job.id)).interruptions == 1
    settled = len(broker.settled)
    go.set()
    await over.wait()
    await anyio.wait_all_tasks_blocked()
    assert len(broker.settled) == settled
    assert told.outcomes == ["Released"]
    assert (await job.refresh()).status == "pending"


async def test_a_job_that_was_given_back_is_held_until_the_store_has_it(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    """Also when its function has returned by then."""
    running, go = anyio.Event(), anyio.Event()

    @app.task
    async def deaf(ctx: Ctx) -> None:
        running.set()
        await go.wait()

    job = await deaf.enqueue()
    async with working(app) as worker:
        await running.wait()
        work = worker._running
        assert work is not None
        gate = broker.gates["settle"] = anyio.Event()
        (attempt,) = work.attempts.snapshot()
        work.executor.give_back(attempt)
        go.set()
        await until(lambda: log.of("job.stale"))
        await anyio.wait_all_tasks_blocked()
        assert len(work.attempts) == 1
        gate.set()
        await job.finished(timeout=PATIENCE)
    assert (job.status, job.crashes) == ("completed", 0)


async def convert(ctx: Ctx) -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        raise ConnectionError("as some libraries do") from None


async def clean_up(ctx: Ctx) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise OSError("nothing to remove")


async def child(ctx: Ctx) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(clean_up, ctx)
        await anyio.sleep_forever()


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("by", ["the worker", "its user"])
@pytest.mark.parametrize("body", [convert, clean_up, child])
async def test_what_a_job_raises_when_it_is_stopped_is_no_failure(
    app: Aarq, broker: FaultyBroker, log: Log, body: Any, by: str
) -> None:
    told = app.use(Told())
    running = anyio.Event()

    @app.task(name="stopped", retries=3)
    async def stopped(ctx: Ctx) -> None:
        running.set()
        await body(ctx)

    job = await stopped.enqueue()
    async with working(app, shutdown_timeout=0.1 if by == "the worker" else 3600):
        await running.wait()
        if by == "its user":
            assert await job.cancel()
            await job.finished(timeout=PATIENCE)
    await job.refresh()
    assert (job.status, job.retries) == (("cancelled" if by == "its user" else "pending"), 0)
    assert told.outcomes == ["Cancelled" if by == "its user" else "Released"]
    (line,) = log.of("job.cancel_error")
    assert line["job_id"] == job.id
    assert log.of("job.failed") == log.of("job.retry") == []


@pytest.mark.usefixtures("unhurried")
async def test_a_job_may_still_say_itself_what_becomes_of_it(app: Aarq) -> None:
    running = anyio.Event()

    @app.task
    async def decided(ctx: Ctx) -> None:
        running.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise Abort("half done") from None

    job = await decided.enqueue()
    async with working(app, shutdown_timeout=0.1):
        await running.wait()
    assert ((await job.refresh()).status, job.error) == ("failed", "half done")


@pytest.mark.parametrize("ends", [Snooze(3600), Retry(3600)])
async def test_a_job_that_came_to_an_end_of_its_own_is_not_always_cut_short(
    app: Aarq, broker: FaultyBroker, ends: Exception
) -> None:
    """Nor unknown: what was counted against it before does not add up over its runs."""

    @app.task(retries=1)
    async def polls(ctx: Ctx) -> None:
        raise ends

    job = await polls.enqueue()
    broker._store._rows[job.id].note = encode_note(Note(interruptions=19, unknown_since=1))
    await drain(app)
    note = await note_of(broker, job.id)
    assert (note.interruptions, note.unknown_since) == (0, None)


@pytest.mark.usefixtures("unhurried")
async def test_a_job_that_was_cut_short_is_known_here(app: Aarq, broker: FaultyBroker) -> None:
    running = anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    job = await long.enqueue()
    broker._store._rows[job.id].note = encode_note(Note(interruptions=1, unknown_since=1))
    async with working(app, shutdown_timeout=0.1):
        await running.wait()
    note = await note_of(broker, job.id)
    assert (note.interruptions, note.unknown_since) == (2, None)


async def test_claimed_jobs_that_have_not_begun_are_given_back_uncounted(
    app: Aarq, broker: FaultyBroker
) -> None:
    @app.task
    async def never(ctx: Ctx) -> None:
        pytest.fail("ran")

    reply = broker.after_claim = anyio.Event()
    jobs = [await never.enqueue() for _ in range(3)]
    async with working(app, shutdown_timeout=3600) as worker:
        await until(lambda: broker._store._running)
        worker.stop()
        await anyio.wait_all_tasks_blocked()
        broker.after_claim = None
        reply.set()
    for job in jobs:
        await job.refresh()
        assert (job.status, job.retries, job.crashes) == ("pending", 0, 0)
        assert (await note_of(broker, job.id)) == Note()


@on_asyncio
@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_store_that_is_gone_does_not_hold_the_stop(
    app: Aarq, broker: FaultyBroker, log: Log, how: str
) -> None:
    running, go = anyio.Event(), anyio.Event()

    @app.task
    async def some(ctx: Ctx, i: int) -> None:
        running.set()
        if i:
            await go.wait()
        else:
            await anyio.sleep_forever()

    await app.enqueue_many([some.job(i) for i in range(3)])
    before = {task for task in asyncio.all_tasks() if not task.done()}
    async with working(app, shutdown_timeout=0.3, lease=0.5) as worker:
        await running.wait()
        if how == "refuses":
            broker.break_all(BrokerUnavailable("gone"))
        else:
            for name in ("claim", "settle", "upkeep", "beat", "forget"):
                broker.gates[name] = anyio.Event()
        go.set()
        await until(lambda: broker.calls["settle"] if how == "hangs" else broker.calls["renew"])
        worker.stop()
    (line,) = log.of("worker.unsettled")
    assert line["jobs"] == 3
    await anyio.wait_all_tasks_blocked()
    assert {task for task in asyncio.all_tasks() if not task.done()} == before


async def test_a_lease_thread_that_hangs_does_not_hold_the_stop(
    app: Aarq, broker: FaultyBroker
) -> None:
    hanging, go = threading.Event(), threading.Event()

    class Hangs:
        def renew(self, tokens: Any, lease_ms: int) -> Any:
            hanging.set()
            go.wait()
            raise BrokerUnavailable("at last")

        def close(self) -> None: ...

    @app.task
    async def long(ctx: Ctx) -> None:
        await anyio.sleep_forever()

    broker.for_lease_thread = Hangs  # type: ignore[method-assign,assignment]
    try:
        await long.enqueue()
        async with working(app, lease=0.3, shutdown_timeout=0.1):
            await until(hanging.is_set)
    finally:
        go.set()


@pytest.mark.parametrize(
    ("anyio_backend", "by"), [("asyncio", "asyncio"), ("asyncio", "anyio"), ("trio", "anyio")]
)
async def test_cancelling_the_awaiting_task_gives_running_jobs_back(
    app: Aarq, broker: FaultyBroker, by: str
) -> None:
    running = anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    job = await long.enqueue()
    worker = Worker(app, WorkerOptions(shutdown_timeout=3600))
    if by == "asyncio":
        task = asyncio.create_task(worker.run())
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
    else:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await running.wait()
                group.cancel_scope.cancel()
    await job.refresh()
    assert (job.status, job.crashes) == ("pending", 0)
    assert (await note_of(broker, job.id)).interruptions == 1


@on_asyncio
async def test_the_end_of_the_loop_loses_no_job(broker: FaultyBroker, log: Log) -> None:
    """``asyncio.run`` cancels every task when its main function returns."""
    app = Aarq(broker, plugins=False)

    async def main() -> str:
        running = anyio.Event()

        @app.task
        async def long(ctx: Ctx) -> None:
            running.set()
            await anyio.sleep_forever()

        job = await long.enqueue()
        task = asyncio.create_task(Worker(app).run())
        await running.wait()
        assert not task.done()
        return job.id

    job_id = await anyio.to_thread.run_sync(lambda: asyncio.run(main()))
    (info,) = await broker.get([job_id])
    assert info is not None
    assert info.status in ("pending", "running")
    assert info.retries == 0


@on_asyncio
async def test_the_end_of_the_loop_says_nothing_of_an_outcome_on_its_way(
    broker: FaultyBroker, log: Log
) -> None:
    """Whether the store has it nobody has heard: neither that it is stale, nor that it is not."""
    app = Aarq(broker, plugins=False)

    async def main() -> None:
        sent = anyio.Event()

        async def silent(settlements: Any) -> Any:
            sent.set()
            await anyio.sleep_forever()

        broker.settle = silent  # type: ignore[method-assign]

        @app.task
        async def quick(ctx: Ctx) -> None: ...

        await quick.enqueue()
        task = asyncio.create_task(Worker(app).run())
        await sent.wait()
        assert not task.done()

    await anyio.to_thread.run_sync(lambda: asyncio.run(main()))
    assert log.of("job.stale") == []


async def test_a_stop_before_the_start_is_complete(broker: FaultyBroker, log: Log) -> None:
    at: list[str] = []
    starting, go = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def lifespan(app: Aarq) -> AsyncIterator[None]:
        starting.set()
        await go.wait()
        yield
        at.append("down")

    app = Aarq(broker, lifespan=lifespan, plugins=False)

    @app.task
    async def never(ctx: Ctx) -> None:
        pytest.fail("ran")

    await never.enqueue()
    async with working(app) as worker:
        await starting.wait()
        worker.stop()
        go.set()
    assert at == ["down"]
    worker = Worker(app)
    worker.stop()
    with anyio.fail_after(PATIENCE):
        await worker.run()
    assert at == ["down", "down"]


@pytest.mark.parametrize("where", ["open", "lifespan", "close"])
async def test_a_cancel_ends_a_start_or_an_end_that_hangs(
    broker: FaultyBroker, log: Log, where: str
) -> None:
    hanging = anyio.Event()

    async def hang(here: str) -> None:
        if here == where:
            hanging.set()
            await anyio.sleep_forever()

    @asynccontextmanager
    async def lifespan(app: Aarq) -> AsyncIterator[None]:
        await hang("lifespan")
        yield
        await hang("close")

    async def opened() -> None:
        await hang("open")

    broker.open = opened  # type: ignore[method-assign]
    app = Aarq(broker, lifespan=lifespan, plugins=False)
    worker = Worker(app, WorkerOptions(burst=True))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await hanging.wait()
            group.cancel_scope.cancel()


async def test_an_error_of_the_lifespan_is_the_runs(broker: FaultyBroker, log: Log) -> None:
    @asynccontextmanager
    async def lifespan(app: Aarq) -> AsyncIterator[None]:
        raise LookupError("no configuration")
        yield

    app = Aarq(broker, lifespan=lifespan, plugins=False)
    with pytest.raises(LookupError, match="no configuration"):
        await drain(app)


async def test_two_runs_after_another(app: Aarq) -> None:
    @app.task
    async def good(ctx: Ctx) -> None: ...

    for _ in range(2):
        job = await good.enqueue()
        await drain(app)
        assert (await job.refresh()).status == "completed"


async def test_a_stop_while_the_slots_are_full_and_the_backlog_too(
    app: Aarq, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq.worker._settler.BACKLOG", 2)
    broker.gates["settle"] = gate = anyio.Event()

    @app.task
    async def good(ctx: Ctx) -> None: ...

    jobs = [await good.enqueue() for _ in range(10)]
    async with working(app, concurrency=2, shutdown_timeout=3600) as worker:
        await until(lambda: broker.calls["settle"])
        worker.stop()
        del broker.gates["settle"]
        gate.set()
    statuses = {(await job.refresh()).status for job in jobs}
    assert statuses <= {"completed", "pending"}


async def test_a_worker_leaves_an_app_open_that_was_open_before() -> None:
    """A web app that also runs a worker goes on enqueueing after the worker's end."""
    app = Aarq(MemoryBroker())
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    app.broker.close = close  # type: ignore[method-assign]
    async with app:
        await Worker(app, WorkerOptions(burst=True)).run()
        assert closed == []
    assert closed == [True]
    await Worker(app, WorkerOptions(burst=True)).run()
    assert closed == [True, True], "what the worker opened it closes"
