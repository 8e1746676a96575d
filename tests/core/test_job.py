"""A job handle: its fields through a life, and what waiting for its end answers."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from aioq import Aarq, Context, Job, TaskDef
from aioq._clock import from_ms
from aioq._records import CancelAnswer
from aioq.errors import (
    AioqError,
    JobCancelled,
    JobFailed,
    JobNotFound,
    ResultNotSaved,
    SerializationError,
)
from aioq.testing import FakeClock

ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def square(app: Aarq) -> TaskDef[[int], int]:
    @app.task(save_result=True, retries=2)
    async def square(ctx: Context, n: int) -> int: ...

    return square


@pytest.fixture
def note(app: Aarq) -> TaskDef[[], None]:
    @app.task
    async def note(ctx: Context) -> None: ...

    return note


async def test_the_fields_follow_the_life_of_the_job(
    square: TaskDef[[int], int], hand: Any, clock: FakeClock
) -> None:
    job = await square.options(delay=1).enqueue(5)
    start = clock()
    assert job.status == "scheduled"

    clock.advance(1500)
    delivery = await hand.claim()
    await job.refresh()
    assert (job.status, job.worker_id) == ("running", hand.worker)
    assert job.started_at == from_ms(start + 1500)
    assert job.run_at == from_ms(start + 1000)

    await hand.settle(delivery, "retry", delay_ms=2000)
    await job.refresh()
    assert (job.status, job.retries, job.max_retries) == ("retrying", 1, 2)
    assert job.run_at == from_ms(start + 3500)

    clock.advance(2000)
    await hand.complete(square, 25)
    assert job.result is None
    assert await job.refresh() is job
    assert (job.status, job.result, job.error) == ("completed", 25, None)
    assert job.completed_at == from_ms(start + 3500)
    assert job.enqueued_at == from_ms(start)
    assert job.completed_at - job.enqueued_at == timedelta(seconds=3.5)


async def test_wait_returns_the_saved_result(square: TaskDef[[int], int], hand: Any) -> None:
    job = await square.enqueue(5)
    async with anyio.create_task_group() as group:
        group.start_soon(hand.complete, square, 25)
        assert await job.wait(timeout=60) == 25
    assert await job.wait() == 25


async def test_wait_does_not_ask_the_store_again_once_it_knows(
    square: TaskDef[[int], int], hand: Any, broker: Any
) -> None:
    job = await square.enqueue(5)
    await hand.complete(square, 25)
    await job.wait()
    await broker.delete_job(job.id)
    assert await job.wait() == 25


async def test_a_saved_none_is_a_result(app: Aarq, hand: Any) -> None:
    @app.task(save_result=True)
    async def nothing(ctx: Context) -> None: ...

    job = await nothing.enqueue()
    await hand.complete(nothing, None)
    assert await job.wait() is None


async def test_wait_needs_a_task_that_saves_its_result(note: TaskDef[[], None]) -> None:
    job = await note.enqueue()
    with pytest.raises(ResultNotSaved) as refused:
        await job.wait()
    assert str(refused.value) == (
        f"job {job.id} of task {note.name!r} does not save its result: set save_result=True on "
        f"the task, or use job.finished() to wait for its end"
    )
    assert refused.value.job_id == job.id


async def test_a_completed_job_without_its_result_says_so(
    square: TaskDef[[int], int], hand: Any
) -> None:
    job = await square.enqueue(5)
    await hand.settle(await hand.claim(), "completed")
    with pytest.raises(ResultNotSaved, match=r"completed without a saved result: set save_result"):
        await job.wait()


async def test_finished_waits_for_any_job(note: TaskDef[[], None], hand: Any) -> None:
    job = await note.enqueue()
    async with anyio.create_task_group() as group:
        group.start_soon(hand.complete, note)
        assert await job.finished(timeout=60) is job
    assert job.status == "completed"
    assert job.completed_at is not None


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("failed", "ValueError: boom", "ended failed: ValueError: boom"),
        ("failed", None, "ended failed: no reason was recorded"),
        ("dead", "it cannot be decoded", "ended dead: it cannot be decoded"),
        ("dead", None, "ended dead: its worker died 0 times while it ran"),
    ],
)
async def test_a_job_that_gave_up_raises_its_last_error(
    square: TaskDef[[int], int], hand: Any, kind: Any, error: Any, message: str
) -> None:
    job = await square.enqueue(5)
    await hand.fail(error, kind)
    with pytest.raises(JobFailed) as failed:
        await job.wait()
    assert str(failed.value) == f"job {job.id} of task {square.name!r} {message}"
    assert failed.value.job_id == job.id
    assert failed.value.status == kind
    assert failed.value.error == job.error
    assert failed.value.traceback == job.traceback == "Traceback ..."
    await job.finished()
    assert job.status == kind


async def test_a_cancelled_job_raises_job_cancelled(square: TaskDef[[int], int]) -> None:
    job = await square.enqueue(5)
    assert await job.cancel()
    with pytest.raises(JobCancelled, match=f"(?m)^job {job.id} of task .* was cancelled$"):
        await job.wait()


async def test_a_job_cancelled_here_is_finished_with_fresh_fields(
    note: TaskDef[[], None],
) -> None:
    job = await note.enqueue()
    await job.cancel()
    assert job.status == "cancelled"
    await job.finished()
    assert job.completed_at is not None


async def test_cancelling_a_running_job_asks_its_worker(note: TaskDef[[], None], hand: Any) -> None:
    job = await note.enqueue()
    delivery = await hand.claim()
    assert await job.cancel()
    assert job.status == "pending"  # as it was last read
    await hand.settle(delivery, "cancelled")
    assert (await job.finished()).status == "cancelled"


async def test_cancelling_a_finished_job_changes_nothing(
    note: TaskDef[[], None], hand: Any
) -> None:
    job = await note.enqueue()
    await hand.complete(note)
    assert not await job.cancel()
    assert (await job.refresh()).status == "completed"


@pytest.mark.parametrize("call", ["finished", "wait", "refresh", "cancel"])
async def test_a_job_the_store_does_not_know_is_not_found(
    square: TaskDef[[int], int], broker: Any, call: str
) -> None:
    job = await square.enqueue(5)
    await broker.delete_job(job.id)
    with pytest.raises(JobNotFound) as unknown:
        await getattr(job, call)()
    assert str(unknown.value) == (
        f"job {job.id} of task {square.name!r} is unknown to the store: it was deleted, or its "
        f"record has expired"
    )


async def test_a_job_deleted_while_it_is_waited_for_is_not_found(
    square: TaskDef[[int], int], broker: Any
) -> None:
    job = await square.enqueue(5)
    async with anyio.create_task_group() as group:
        group.start_soon(broker.delete_job, job.id)
        with pytest.raises(JobNotFound):
            await job.wait(timeout=60)


@pytest.mark.parametrize("call", ["finished", "wait", "refresh", "cancel"])
async def test_an_unsent_job_cannot_be_asked(square: TaskDef[[int], int], call: str) -> None:
    job = square.job(5)
    with pytest.raises(AioqError) as refused:
        await getattr(job, call)()
    assert str(refused.value) == (
        f"job {job.id} of task {square.name!r} was never sent: pass it to "
        f"app.enqueue_many([...]) first"
    )


@pytest.mark.parametrize("call", ["finished", "wait"])
async def test_a_wait_that_runs_out_is_a_timeout_error(
    square: TaskDef[[int], int], call: str
) -> None:
    job = await square.enqueue(5)
    with pytest.raises(TimeoutError) as late:
        await getattr(job, call)(timeout=0)
    assert str(late.value) == (
        f"job {job.id} of task {square.name!r} has not finished after 0 s (does a worker serve "
        f"queue 'default' of memory://?)"
    )
    assert job.status == "pending"


async def test_many_may_wait_for_one_job(square: TaskDef[[int], int], hand: Any) -> None:
    job = await square.enqueue(5)
    handles = [await square.get_job(job.id) for _ in range(5)]
    waiting = [asyncio.ensure_future(one.wait(60)) for one in handles if one]
    await hand.complete(square, 25)
    assert await asyncio.gather(*waiting) == [25] * 5


async def test_a_result_that_no_longer_fits_its_annotation_is_an_error_of_its_own(
    square: TaskDef[[int], int], hand: Any
) -> None:
    job = await square.enqueue(5)
    await hand.settle(
        await hand.claim(), "completed", result=b'"text"', content_type="application/json"
    )
    with pytest.raises(SerializationError, match="Expected `int`, got `str`"):
        await job.wait()


async def test_a_result_of_an_unknown_format_names_it(
    square: TaskDef[[int], int], hand: Any
) -> None:
    job = await square.enqueue(5)
    await hand.settle(await hand.claim(), "completed", result=b"x", content_type="text/odd")
    with pytest.raises(SerializationError) as unreadable:
        await job.wait()
    assert str(unreadable.value) == (
        "no installed serializer reads 'text/odd' (installed: application/json)"
    )


async def test_arguments_are_gone_from_a_completed_record_and_kept_by_the_handle(
    app: Aarq, square: TaskDef[[int], int], hand: Any
) -> None:
    job = await square.enqueue(5)
    await hand.complete(square, 25)
    looked_up: Job[Any] = await app.broker.get_job(job.id)
    assert (looked_up.args, looked_up.kwargs, looked_up.headers) == ((), {}, {})
    assert (job.args, job.headers) == ((5,), {})


def test_a_job_prints_as_what_it_is(square: TaskDef[[int], int]) -> None:
    job = square.job(5)
    assert str(job) == f"job {job.id} of task {square.name!r}"
    assert repr(job) == f"<Job {job.id} task={square.name!r} queue='default' pending>"
    assert job.enqueued_at is job.run_at is None


async def test_bodies_and_policies_that_cannot_be_read_do_not_hide_the_job(
    app: Aarq, broker: Any, note: TaskDef[[], None]
) -> None:
    record = note.job().to_record(1000)._replace(policy=b"\xc1", body=b"rubbish")
    await broker.enqueue([record], producer=b"12345678", numbers={"default": 1})
    job = await app.broker.get_job(record.id)
    assert job.max_retries == 0
    with pytest.raises(SerializationError, match="the job's body is not an aioq envelope"):
        _ = job.args


async def test_a_store_may_answer_a_cancel_in_four_ways(
    note: TaskDef[[], None], monkeypatch: pytest.MonkeyPatch, broker: Any
) -> None:
    job = await note.enqueue()
    expected: dict[CancelAnswer, bool] = {"asked": True, "finished": False, "cancelled": True}
    for answer, outcome in expected.items():

        async def cancel(ids: Any, answer: CancelAnswer = answer) -> list[CancelAnswer]:
            return [answer]

        monkeypatch.setattr(broker, "cancel", cancel)
        assert await job.cancel() is outcome


@pytest.mark.parametrize("call", ["cancel_job", "retry_job"])
async def test_the_brokers_methods_name_an_unknown_job(
    broker: Any, call: str, note: Callable[..., Any]
) -> None:
    with pytest.raises(JobNotFound, match=f"^no job {ABSENT} is known to the store$") as unknown:
        await getattr(broker, call)(ABSENT)
    assert unknown.value.job_id == ABSENT
