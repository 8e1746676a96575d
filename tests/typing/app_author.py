"""What an application may write: it must pass both checkers, with exactly these types."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel

from aioq import Aarq, Abort, Context, Job, Middleware, Retry, Snooze, TaskDef
from aioq.backends import BaseBroker, MemoryBroker
from aioq.errors import EnqueueManyError, JobFailed
from aioq.middleware import Next, Order, Outcome, Returned, RunningJob, Send, Succeeded
from aioq.testing import Jobs, offline


class State:
    """What the lifespan yields."""

    pool: str = "pool"


@asynccontextmanager
async def lifespan(app: Aarq) -> AsyncGenerator[State, None]:
    assert_type(app.broker, BaseBroker)
    yield State()


app = Aarq(broker=MemoryBroker(), lifespan=lifespan)
by_url = Aarq("postgresql://localhost/app")
embedded = Aarq()
named = Aarq(namespace="shop")


@dataclass
class Parcel:
    id: UUID
    lines: list[str]


@app.task(queue="default", retries=3, retry_delay=30.0, save_result=True, result_ttl=7200)
async def compute(ctx: Context, n: int) -> int:
    assert_type(ctx["worker_id"], str)
    assert_type(ctx["job_id"], str)
    assert_type(ctx["broker"], BaseBroker)
    assert_type(ctx["attempt"], int)
    assert_type(ctx.job_id, str)
    assert_type(ctx.app, Aarq)
    assert_type(ctx.enqueued_at, datetime)
    assert_type(ctx.headers, dict[str, str])
    return n * n


@app.task
async def greet(ctx: Context[State], name: str, *, loud: bool = False) -> str:
    assert_type(ctx.state, State)
    assert_type(ctx["state"], State)
    assert_type(ctx.state.pool, str)
    return name.upper() if loud else name


@app.task()
async def store(ctx: Context, parcel: Parcel, at: datetime | None = None) -> None:
    raise Retry(delay=5.0, reason="not yet")


@app.task(save_result=True)
def plain(ctx: Context, text: str, times: int = 1) -> list[str]:
    return [text] * times


@app.task
def plain_bare(ctx: Context) -> bytes:
    return b""


# ctx is positional-only here: with **named it could be given twice, and mypy says so
@app.task(timeout=None, priority=5, backoff=2.0, max_retry_delay=600.0, jitter=0.1)
async def many(ctx: Context, /, *values: int, **named: str) -> tuple[int, str]:
    if not values:
        raise Abort("nothing to do")
    raise Snooze(60)


@app.task(name="short", retry_on=(OSError, TimeoutError))
async def untyped_result(ctx: dict[str, Any], payload: dict[str, Any]) -> Any:
    return payload["x"]


# A task is never TaskDef[Any, Any]: these lines hold the overloads of `task` to that. An awaitable
# in place of the coroutine would turn all of them into Any, and every check below would vanish.
async def the_decorator_keeps_types() -> None:
    assert_type(await compute(Context(), 1), int)
    assert_type(await greet({"job_id": "x"}, "a", loud=True), str)
    assert_type(await plain(Context(), "a"), list[str])
    assert_type(await plain_bare(Context()), bytes)
    assert_type(await store(Context(), Parcel(UUID(int=0), [])), None)
    assert_type(await many(Context(), 1, 2, a="b"), tuple[int, str])


async def enqueue_keeps_types() -> None:
    assert_type(await compute.enqueue(5), Job[int])
    assert_type(await compute.enqueue(n=5), Job[int])
    assert_type(await greet.enqueue("a", loud=True), Job[str])
    assert_type(await store.enqueue(Parcel(UUID(int=0), []), at=None), Job[None])
    assert_type(await plain.enqueue("a", times=2), Job[list[str]])
    assert_type(await plain_bare.enqueue(), Job[bytes])
    assert_type(await many.enqueue(1, 2, 3, key="value"), Job[tuple[int, str]])
    assert_type(plain.enqueue_sync("a"), Job[list[str]])
    assert_type(compute.job(1), Job[int])
    assert_type(compute.name, str)
    assert_type(compute.queue, str)


async def options_keep_types() -> None:
    soon = compute.options(delay=timedelta(minutes=5), priority=10)
    assert_type(await compute.options(connection=object()).enqueue(1), Job[int])
    assert_type(await soon.enqueue(1), Job[int])
    later = greet.options(run_at=datetime.now(UTC), queue="other", retries=1, retry_delay=0.5)
    assert_type(await later.enqueue("a"), Job[str])
    own = plain.options(timeout=None, save_result=True, result_ttl=60, job_id="1").options(delay=3)
    assert_type(await own.enqueue("a"), Job[list[str]])


async def many_jobs_keep_types() -> None:
    numbers = await app.enqueue_many([compute.job(1), compute.job(2)])
    assert_type(numbers, list[Job[int]])
    assert_type(await numbers[0].wait(timeout=5), int)
    one, other = compute.job(1), greet.job("a")
    await app.enqueue_many([compute.job(1), greet.job("a"), store.job(Parcel(UUID(int=0), []))])
    mixed: list[Job[Any]] = [one, other]
    try:
        await app.enqueue_many(mixed)
    except EnqueueManyError as exc:
        assert_type(exc.accepted, list[str])
    assert_type(await one.wait(), int)
    assert_type(await other.wait(), str)
    wide: Job[float] = one
    print(wide)


async def job_fields(job: Job[int]) -> None:
    assert_type(job.id, str)
    assert_type(job.result, int | None)
    assert_type(job.error, str | None)
    assert_type(job.retries, int)
    assert_type(job.enqueued_at, datetime | None)
    assert_type(job.worker_id, str | None)
    assert_type(await job.finished(timeout=1.0), Job[int])
    assert_type(await job.refresh(), Job[int])
    assert_type(await job.cancel(), bool)
    try:
        assert_type(await job.wait(), int)
    except JobFailed as exc:
        assert_type(exc.status, str)
    assert_type(await compute.get_job(job.id), Job[int] | None)


async def the_specification_reads_as_it_stands(job_id: str) -> None:
    broker = app.broker
    job = await broker.get_job(job_id)
    assert_type(job, Job[Any] | Any)
    print(job.result)
    async with MemoryBroker() as memory:
        assert_type(memory, MemoryBroker)
        page = await memory.list_jobs(status=["failed", "dead"], queue="default", limit=10)
        assert_type(page[0], Job[Any])
        assert_type(page.cursor, str | None)
        assert_type(await memory.prune(timedelta(days=7)), int)


class Timing(Middleware):
    order = Order.LOG

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        return await call_next(job)

    async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
        for job in jobs:
            job.headers["tenant"] = "a"
        await call_next(jobs)

    async def settled(self, job: RunningJob, outcome: Outcome) -> None:
        match outcome:
            case Succeeded(result):
                assert_type(result, object)
            case _:
                pass


assert_type(app.use(Timing()), Timing)


@app.middleware
async def transaction(job: RunningJob, call_next: Next) -> Returned:
    async with job.ctx.state.begin():
        return await call_next(job)


@app.use
async def another(job: RunningJob, call_next: Next) -> Returned:
    return await call_next(job)


def a_task_can_be_passed_on(task: TaskDef[[int], int]) -> None:
    assert_type(task.options(delay=1), TaskDef[[int], int])


class Invoice(BaseModel):
    number: int


@app.task(save_result=True)
async def bill(ctx: Context, invoice: Invoice, others: list[Invoice]) -> Invoice:
    return invoice


async def models_are_arguments_and_results() -> None:
    job = await bill.enqueue(Invoice(number=1), [])
    assert_type(job, Job[Invoice])
    assert_type(await job.wait(), Invoice)
    assert_type(job.result, Invoice | None)


async def a_test_of_a_program(jobs: Jobs) -> None:
    assert_type(jobs.assert_enqueued(compute, args=[5], delay=60), Job[int])
    assert_type(jobs.enqueued(compute), list[Job[int]])
    assert_type(await jobs.run(), list[Job[Any]])
    with offline(app) as own:
        assert_type(own, Jobs)
