"""``TaskDef``: calling it without the queue, and keeping options and arguments apart."""

import threading
from typing import Any

import pytest

from aioq import Aarq, Context, TaskDef
from aioq.errors import ConfigurationError, InvalidArguments


async def test_calling_an_async_task_runs_its_function_here(app: Aarq) -> None:
    @app.task
    async def double(ctx: Context, n: int, *, more: int = 0) -> int:
        return 2 * n + more

    assert await double(Context(), 2, more=1) == 5
    assert double.is_async
    assert not (await app.broker.list_jobs())


async def test_calling_a_plain_task_runs_its_function_in_a_thread(app: Aarq) -> None:
    @app.task
    def where(ctx: Context) -> int:
        return threading.get_ident()

    assert await where({}) != threading.get_ident()
    assert where.fn(Context()) == threading.get_ident()


async def test_what_a_task_raises_reaches_its_caller(app: Aarq) -> None:
    @app.task
    def breaks(ctx: Context) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await breaks({})


async def test_options_never_travel_as_arguments(app: Aarq) -> None:
    @app.task
    async def task(ctx: Context, queue: str, delay: int, *, retries: int, job_id: str) -> None: ...

    job = await task.enqueue("q", delay=5, retries=7, job_id="mine")
    stored = await app.broker.get_job(job.id)
    assert stored.kwargs == {"delay": 5, "retries": 7, "job_id": "mine"}
    assert stored.args == ("q",)
    assert (stored.queue, stored.max_retries, stored.status) == ("default", 0, "pending")


async def test_a_task_may_take_parameters_called_self_args_and_kwargs(app: Aarq) -> None:
    @app.task
    async def task(ctx: Context, args: int, kwargs: int, self: int) -> int:
        return args + kwargs + self

    job = await task.enqueue(args=1, kwargs=2, self=3)
    assert (await app.broker.get_job(job.id)).kwargs == {"args": 1, "kwargs": 2, "self": 3}
    assert await task(Context(), args=1, kwargs=2, self=3) == 6


async def test_an_option_given_to_enqueue_is_an_argument_the_task_does_not_take(app: Aarq) -> None:
    @app.task
    async def task(ctx: Context) -> None: ...

    with pytest.raises(InvalidArguments, match="unexpected keyword argument 'delay'"):
        await task.enqueue(delay=5)
    assert not (await app.broker.list_jobs())


def test_a_task_looks_like_its_function(app: Aarq) -> None:
    @app.task(queue="mail")
    async def send(ctx: Context) -> None:
        """Send it."""

    assert isinstance(send, TaskDef)
    assert send.__name__ == "send"
    assert send.__doc__ == "Send it."
    assert repr(send) == f"<TaskDef {send.name!r} queue='mail'>"


@pytest.mark.parametrize("what", [5, "default", None])
def test_only_a_function_can_be_decorated(app: Aarq, what: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^@app.task goes on a function, got "):
        app.task()(what)


async def test_get_job_decodes_by_the_tasks_annotations(app: Aarq, hand: Any) -> None:
    @app.task(save_result=True)
    async def powers(ctx: Context, base: set[int]) -> set[int]: ...

    @app.task
    async def other(ctx: Context) -> None: ...

    job = await powers.enqueue({2})
    found = await powers.get_job(job.id)
    assert found is not None
    assert found.args == ({2},)
    await hand.complete(powers, {4})
    assert (await found.refresh()).result == {4}
    assert (await app.broker.get_job(job.id)).result == [4]
    assert await powers.get_job("00000000-0000-4000-8000-000000000000") is None
    with pytest.raises(ConfigurationError, match="is not a job of task"):
        await other.get_job(job.id)


def test_the_queues_of_an_app_are_those_its_tasks_declare(app: Aarq) -> None:
    assert app.queues == ("default",)

    @app.task(queue="b")
    async def one(ctx: Context) -> None: ...

    @app.task(queue="a")
    async def two(ctx: Context) -> None: ...

    assert app.queues == ("a", "b")
    assert set(app.tasks) == {one.name, two.name}
