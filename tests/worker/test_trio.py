"""What is trio's own: cancels are scopes, and come in groups with other errors."""

from contextvars import Context as Variables

import pytest
import trio
import trio.lowlevel
from worker.harness import FaultyBroker, Log, drain, ended, until, working

from aioq import Aarq, Context, _background
from aioq.middleware import Next, Returned, RunningJob


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


async def test_a_task_may_be_all_trios(app: Aarq) -> None:
    @app.task(save_result=True)
    async def total(ctx: Context, numbers: list[int]) -> int:
        done: list[int] = []

        async def add(n: int) -> None:
            await trio.lowlevel.checkpoint()
            done.append(n)

        async with trio.open_nursery() as nursery:
            for n in numbers:
                nursery.start_soon(add, n)
        with trio.move_on_after(0.001):
            await trio.sleep_forever()
        return sum(done)

    job = await total.enqueue([1, 2, 3])
    await drain(app)
    assert await job.wait() == 6


async def test_an_error_on_the_way_out_of_a_cancel_is_told(app: Aarq, log: Log) -> None:
    running = trio.Event()

    @app.task
    async def stubborn(ctx: Context) -> None:
        async def child() -> None:
            try:
                running.set()
                await trio.sleep_forever()
            finally:
                raise ValueError("while it was stopped")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    job = await stubborn.enqueue()
    async with working(app):
        await running.wait()
        await job.cancel()
        await ended(job)
    assert job.status == "cancelled"
    (line,) = log.of("job.cancel_error")
    assert line["reason"].startswith("ExceptionGroup: ")
    assert isinstance(line["exc_info"], ExceptionGroup)


async def test_a_layer_that_catches_everything_and_lets_it_pass(app: Aarq) -> None:
    running = trio.Event()
    caught: list[type[BaseException]] = []

    @app.middleware
    async def watch(job: RunningJob, call_next: Next) -> Returned:
        try:
            return await call_next(job)
        except BaseException as exc:
            caught.append(type(exc))
            raise

    @app.task
    async def long(ctx: Context) -> None:
        running.set()
        await trio.sleep_forever()

    job = await long.enqueue()
    async with working(app):
        await running.wait()
        await job.cancel()
        await ended(job)
    assert (job.status, caught) == ("cancelled", [trio.Cancelled])


async def test_a_timeout_inside_a_group(app: Aarq) -> None:
    @app.task(timeout=0.02)
    async def slow(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    job = await slow.enqueue()
    await drain(app)
    await job.refresh()
    assert job.status == "failed"
    assert job.error == "TaskTimeout: ran longer than its timeout of 0.02 s"


async def test_a_task_of_aioqs_own_that_fails_is_told(
    broker: FaultyBroker, unheard: list[dict[str, object]]
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    task = _background.start(broken(), "broken")
    await until(task.done)
    (told,) = unheard
    assert told["msg"] == "a task of aioq has failed"
    unheard.clear()


async def test_a_task_of_aioqs_own_can_be_joined_and_cancelled(
    unheard: list[dict[str, object]],
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    task = _background.spawn(broken(), Variables())
    with pytest.raises(ZeroDivisionError):
        await _background.join(task)

    async def endless() -> None:
        await trio.sleep_forever()

    task = _background.spawn(endless(), Variables())
    with trio.move_on_after(0.01):
        await _background.join(task)
    assert not task.done()
    task.cancel()
    await _background.join(task)
    assert task.done()
