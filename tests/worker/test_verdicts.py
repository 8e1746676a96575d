"""What a task can do to itself, and what becomes of its job."""

import asyncio
import math
import threading
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from worker.harness import FaultyBroker, Log, drain, ended, on_asyncio, until, working

from aioq import Aarq, Abort, Context, Middleware, Retry, Snooze
from aioq._wire import Note, decode_note
from aioq.middleware import Next, Order, Returned, RunningJob

pytestmark = pytest.mark.both_loops

Ctx = Context[Any]


def in_groups(error: Exception) -> Exception:
    return ExceptionGroup("outer", [ExceptionGroup("inner", [error])])


def alone(error: Exception) -> Exception:
    return error


WRAPPED = pytest.mark.parametrize("wrap", [alone, in_groups], ids=["alone", "in a group"])


@WRAPPED
async def test_abort_fails_at_once(app: Aarq, wrap: Callable[[Exception], Exception]) -> None:
    @app.task(retries=3, retry_delay=0)
    async def gives_up(ctx: Ctx) -> None:
        raise wrap(Abort("no such user"))

    job = await gives_up.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.retries, job.error) == ("failed", 0, "no such user")


@WRAPPED
async def test_snooze_costs_no_retry(
    app: Aarq, broker: FaultyBroker, wrap: Callable[[Exception], Exception]
) -> None:
    @app.task(retries=3, retry_delay=0)
    async def later(ctx: Ctx) -> None:
        raise wrap(Snooze(60))

    job = await later.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.retries) == ("scheduled", 0)
    (info,) = await broker.get([job.id])
    assert info is not None
    assert 50_000 < info.run_at_ms - info.enqueued_ms < 70_000


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(Snooze(60), "scheduled"), (Abort("no"), "failed"), (Retry(60), "retrying")],
    ids=lambda it: type(it).__name__,
)
async def test_a_verdict_may_pass_a_task_group_of_a_middleware(
    app: Aarq, verdict: Exception, status: str
) -> None:
    @app.middleware
    async def beside(job: RunningJob, call_next: Next) -> Returned:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
            return await call_next(job)

    @app.task(retries=3, retry_delay=0)
    async def decides(ctx: Ctx) -> None:
        raise verdict

    job = await decides.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.retries) == (status, int(status == "retrying"))


@WRAPPED
async def test_retry_takes_its_own_delay(
    app: Aarq, broker: FaultyBroker, wrap: Callable[[Exception], Exception]
) -> None:
    @app.task(retries=3, retry_delay=1)
    async def later(ctx: Ctx) -> None:
        raise wrap(Retry(delay=60))

    job = await later.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.retries) == ("retrying", 1)
    (info,) = await broker.get([job.id])
    assert info is not None
    assert 50_000 < info.run_at_ms - info.enqueued_ms < 70_000


@WRAPPED
async def test_retry_ends_when_none_is_left(
    app: Aarq, wrap: Callable[[Exception], Exception]
) -> None:
    runs = 0

    @app.task(retries=2, retry_delay=0)
    async def again(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        raise wrap(Retry(delay=0)) if runs < 10 else Abort("it never ends")

    job = await again.enqueue()
    await drain(app)
    assert ((await job.refresh()).status, job.retries, runs) == ("failed", 2, 3)


async def test_a_middleware_outside_the_retries_cannot_give_more_of_them(app: Aarq) -> None:
    runs = 0

    class Stubborn(Middleware):
        order = Order.TRACE

        async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
            nonlocal runs
            runs += 1
            raise Retry(delay=0) if runs < 10 else Abort("it never ends")

    app.use(Stubborn())

    @app.task(retries=1)
    async def good(ctx: Ctx) -> None: ...

    job = await good.enqueue()
    await drain(app)
    assert ((await job.refresh()).status, runs) == ("failed", 2)


async def test_only_chosen_errors_are_retried(app: Aarq) -> None:
    @app.task(retries=3, retry_delay=0, retry_on=OSError)
    async def boom(ctx: Ctx) -> None:
        raise ValueError("no")

    @app.task(retries=1, retry_delay=0, retry_on=(OSError, KeyError))
    async def cut(ctx: Ctx) -> None:
        raise ConnectionError("yes")

    one, two = await boom.enqueue(), await cut.enqueue()
    await drain(app)
    assert ((await one.refresh()).status, one.retries) == ("failed", 0)
    assert ((await two.refresh()).status, two.retries) == ("failed", 1)


@pytest.mark.parametrize("delay", [-5, "soon", math.nan, math.inf, 1e300, None])
async def test_a_delay_that_is_none_ends_the_job_not_the_worker(app: Aarq, delay: Any) -> None:
    @app.task
    async def odd(ctx: Ctx) -> None:
        raise Snooze(delay)

    @app.task
    async def good(ctx: Ctx) -> None: ...

    job, neighbour = await odd.enqueue(), await good.enqueue()
    async with working(app):
        await ended(neighbour)
        await until(lambda: app.broker._store._rows[job.id].place != "running")
        if delay == -5:  # due now, and again, and again
            await job.cancel()
        elif isinstance(delay, str) or delay is None or math.isnan(delay) or math.isinf(delay):
            assert (await ended(job)).status == "failed"


async def test_timeouts_stop_async_tasks(app: Aarq) -> None:
    cancelled: list[str] = []

    @app.task(timeout=0.05)
    async def long(ctx: Ctx) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(ctx.job_id)

    job = await long.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.error) == (
        "failed",
        "TaskTimeout: ran longer than its timeout of 0.05 s",
    )
    assert cancelled == [job.id]


async def test_timeouts_are_retried(app: Aarq) -> None:
    @app.task(timeout=0.02, retries=1, retry_delay=0)
    async def long(ctx: Ctx) -> None:
        if not ctx.retries:
            await anyio.sleep_forever()

    job = await long.enqueue()
    await drain(app)
    assert ((await job.refresh()).status, job.retries) == ("completed", 1)


async def test_timeouts_give_up_plain_functions(app: Aarq) -> None:
    go = threading.Event()

    @app.task(timeout=0.05)
    def long(ctx: Ctx) -> None:
        go.wait(60)

    job = await long.enqueue()
    try:
        await drain(app)
        assert (await job.refresh()).error == "TaskTimeout: ran longer than its timeout of 0.05 s"
    finally:
        go.set()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot be told")


class Foreign(BaseException):
    """As some test tools and libraries raise."""


def by_exit() -> None:
    raise SystemExit(3)


def by_group() -> None:
    raise BaseExceptionGroup("several", [SystemExit(3), ValueError("x")])


def by_foreign() -> None:
    raise Foreign("not an Exception")


def by_unspeakable() -> None:
    raise Unspeakable


def by_huge_text() -> None:
    raise ValueError("x" * 3_000_000)


def by_surrogate() -> None:
    raise ValueError("half a character: \ud800")


ODD = [
    (by_exit, "the task called sys.exit(3)"),
    (by_group, "the task raised BaseExceptionGroup: several"),
    (by_foreign, "the task raised Foreign: not an Exception"),
    (by_unspeakable, "Unspeakable"),
    (by_huge_text, "ValueError: xxx"),
    (by_surrogate, "ValueError: half a character"),
]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize(("fail", "error"), ODD)
async def test_odd_errors_are_failures_like_any_other(
    app: Aarq, broker: FaultyBroker, log: Log, fail: Callable[[], None], error: str, plain: bool
) -> None:
    if plain:

        @app.task(name="odd", retries=1, retry_delay=0)
        def odd(ctx: Ctx) -> None:
            fail()

    else:

        @app.task(name="odd", retries=1, retry_delay=0)
        async def odd(ctx: Ctx) -> None:
            fail()

    @app.task
    async def good(ctx: Ctx) -> None: ...

    job, neighbour = await app.tasks["odd"].enqueue(), await good.enqueue()
    async with working(app):
        assert (await ended(neighbour)).status == "completed"
        assert (await ended(job)).status == "failed"
    assert job.retries == 1
    (info,) = await broker.get([job.id])
    assert info is not None
    assert len(info.note or b"") < 20_000
    assert job.error
    assert error in job.error
    job.error.encode()
    (told,) = log.of("job.failed")
    shown = "".join(traceback.format_exception(*told["exc_info"]))
    if fail is not by_group:
        assert __file__ in shown.splitlines()[1], "it begins in the task"
        assert shown.count("Traceback (most recent call last)") == 1


@on_asyncio
async def test_a_task_that_awaits_something_cancelled_fails(app: Aarq) -> None:
    @app.task(retries=1, retry_delay=0)
    async def odd(ctx: Ctx) -> None:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    job = await odd.enqueue()
    await drain(app)
    await job.refresh()
    assert (job.status, job.retries) == ("failed", 1)
    assert job.error == "RuntimeError: the task was cancelled by its own code"


@on_asyncio
async def test_a_task_that_cancels_itself_fails(app: Aarq) -> None:
    runs = 0

    @app.task
    async def odd(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    job = await odd.enqueue()
    await drain(app)
    await job.refresh()
    assert (runs, job.status) == (1, "failed")
    assert job.error == "RuntimeError: the task was cancelled by its own code"


@on_asyncio
async def test_a_task_that_cancels_itself_and_returns_has_completed(app: Aarq) -> None:
    @app.task
    async def odd(ctx: Ctx) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    job = await odd.enqueue()
    await drain(app)
    assert (await job.refresh()).status == "completed"


@on_asyncio
async def test_a_task_may_use_the_event_loops_own_timeouts(app: Aarq) -> None:
    @app.middleware
    async def limited(job: RunningJob, call_next: Next) -> Returned:
        async with asyncio.timeout(0.02):
            return await call_next(job)

    @app.task
    async def odd(ctx: Ctx) -> None:
        try:
            async with asyncio.timeout(0.001):
                await anyio.sleep_forever()
        except TimeoutError:
            pass
        await anyio.sleep_forever()

    job = await odd.enqueue()
    await drain(app)
    assert (await job.refresh()).error == "TimeoutError"


async def test_what_middleware_leaves_behind_is_kept_or_the_job_fails(
    app: Aarq, broker: FaultyBroker
) -> None:
    seen: list[dict[str, str]] = []

    @app.middleware
    async def carrier(job: RunningJob, call_next: Next) -> Returned:
        seen.append(dict(job.carried))
        job.carry["n"] = "half: \ud800" if job.task_name == "bad" else str(job.retries)
        return await call_next(job)

    @app.task(retries=1, retry_delay=0, name="good")
    async def good(ctx: Ctx) -> None:
        raise ValueError

    @app.task(name="bad")
    async def bad(ctx: Ctx) -> None:
        raise ValueError

    await good.enqueue()
    await drain(app)
    assert seen == [{}, {"n": "0"}]
    job = await bad.enqueue()
    async with working(app):
        assert (await ended(job)).status == "failed"


async def test_the_note_remembers_the_last_error_and_completes_without(
    app: Aarq, broker: FaultyBroker
) -> None:
    @app.task(retries=1, retry_delay=0)
    async def second_time(ctx: Ctx) -> None:
        if not ctx.retries:
            raise ValueError("first")

    job = await second_time.enqueue()
    await drain(app)
    assert ((await job.refresh()).status, job.retries) == ("completed", 1)
    (info,) = await broker.get([job.id])
    assert info is not None
    assert decode_note(info.note) == Note(
        error="ValueError: first", traceback=decode_note(info.note).traceback
    )


async def test_logs_name_the_job_and_never_its_arguments(app: Aarq, log: Log) -> None:
    @app.task(retries=1, retry_delay=0)
    async def secret(ctx: Ctx, password: str) -> None:
        raise ValueError("boom")

    await secret.enqueue("hunter2")
    await drain(app)
    assert [line["level"] for line in log.of("job.retry")] == ["warning"]
    assert [line["level"] for line in log.of("job.failed")] == ["error"]
    assert "hunter2" not in str([{**line, "exc_info": None} for line in log.lines])


async def test_a_result_that_cannot_be_saved_is_not_tried_again(app: Aarq) -> None:
    """Wherever a layer keeps it: another run would end like this."""
    runs = 0

    @app.middleware
    async def keep(job: RunningJob, call_next: Next) -> Returned:
        value = await call_next(job)
        job.keep(object())
        return value

    @app.task(retries=2, retry_delay=0)
    async def task(ctx: Context[Any]) -> None:
        nonlocal runs
        runs += 1

    job = await task.enqueue()
    await drain(app)
    assert ((await job.refresh()).status, runs) == ("failed", 1)
