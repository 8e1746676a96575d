"""Application code that must not type-check: each marked line (see check_refused.py)."""

# ruff: noqa: B018, F841

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from aioq import Aarq, Context, Job, Middleware
from aioq.backends import BaseBroker, MemoryBroker
from aioq.middleware import Next, Returned, RunningJob, Send


class State:
    pool: str = "pool"


class Invoice(BaseModel):
    number: int


app = Aarq(MemoryBroker())


@app.task(save_result=True)
async def bill(ctx: Context, invoice: Invoice) -> list[Invoice]:
    return [invoice]


async def models() -> None:
    await bill.enqueue({"number": 1})  # E: arg-type
    job = await bill.enqueue(Invoice(number=1))
    one: Invoice = await job.wait()  # E: assignment


@app.task(save_result=True)
async def compute(ctx: Context[State], n: int) -> int:
    ctx.state.misspelt  # E: attr-defined
    ctx.worker_id = "other"  # E: misc
    number: int = ctx["job_id"]  # E: assignment
    when: str = ctx.enqueued_at  # E: assignment
    return n


@app.task
async def greet(ctx: Context, name: str, *, loud: bool = False) -> str:
    return name


@app.task()
def plain(ctx: Context, text: str) -> list[str]:
    return [text]


@app.task
async def many(ctx: Context, /, *values: int, **named: str) -> None: ...


async def wrong_calls() -> None:
    await compute.enqueue("five")  # E: arg-type
    await compute.enqueue()  # E: call-arg
    await compute.enqueue(1, 2)  # E: call-arg
    await compute.enqueue(m=1)  # E: call-arg
    await compute.enqueue(Context(), 1)  # E: call-arg, arg-type
    await compute.enqueue(1, queue="other")  # E: call-arg
    await compute.enqueue(1, delay=5)  # E: call-arg
    await greet.enqueue("a", True)  # E: call-arg
    await greet.enqueue("a", loud="yes")  # E: arg-type
    await greet.enqueue(None)  # E: arg-type
    await plain.enqueue(b"bytes")  # E: arg-type
    await plain.enqueue("a", "b")  # E: call-arg
    await many.enqueue("a")  # E: arg-type
    await many.enqueue(key=1)  # E: arg-type
    plain.enqueue_sync(1)  # E: arg-type
    compute.job("five")  # E: arg-type
    compute.options(delay=1).job("five")  # E: arg-type
    await compute(Context(), "five")  # E: arg-type
    await compute(1)  # E: call-arg, arg-type
    await plain(Context())  # E: call-arg


async def wrong_options() -> None:
    compute.options(dealy=5)  # E: call-arg
    compute.options(delay="5")  # E: arg-type
    compute.options(queue=1)  # E: arg-type
    compute.options(run_at="tomorrow")  # E: arg-type
    compute.options(retries=1.5)  # E: arg-type
    compute.options(priority="high")  # E: arg-type
    compute.options(save_result="yes")  # E: arg-type
    compute.options(5)  # E: call-arg


async def wrong_results() -> None:
    job = await compute.enqueue(1)
    text: str = await job.wait()  # E: assignment
    result: int = job.result  # E: assignment
    job.result = 5  # E: misc
    job.args = ()  # E: misc
    await job.wait(timeout="soon")  # E: arg-type
    job.misspelt  # E: attr-defined
    unsent: Job[str] = compute.job(1)  # E: assignment
    not_a_job: Job[int] = compute.enqueue(1)  # E: assignment
    found = await compute.get_job(job.id)
    found.result  # E: union-attr
    looked_up = await app.broker.get_job(job.id)
    looked_up.misspelt  # E: union-attr
    await app.enqueue_many([1, 2])  # E: arg-type
    await app.enqueue_many(job)  # E: arg-type
    await app.broker.list_jobs(status="lost")  # E: arg-type
    await app.broker.prune("a week")  # E: arg-type
    started: datetime = job.started_at  # E: assignment


async def forgotten_await() -> None:
    compute.enqueue(1)  # E: unused-coroutine
    (await compute.enqueue(1)).wait()  # E: unused-coroutine


async def without_ctx() -> int:
    return 1


async def wrong_ctx(ctx: int) -> int:
    return ctx


app.task(without_ctx)  # E: arg-type
app.task(wrong_ctx)  # E: arg-type
app.task(queue=1)  # E: call-overload
app.task(retires=1)  # E: call-overload
app.task(retries="3")  # E: call-overload
app.task(retry_on=5)  # E: call-overload
app.task("default")  # E: call-overload
Aarq(5)  # E: arg-type
Aarq(plugin=False)  # E: call-arg
BaseBroker()  # E: abstract


class ForgetsToReturn(Middleware):
    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:  # E: return
        await call_next(job)


class MakesUpAResult(Middleware):
    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        return 5  # E: return-value


class WrongSignature(Middleware):
    async def around_call(self, job: RunningJob) -> Returned:  # E: override
        return Returned(job)


class DoesNotPassTheJobs(Middleware):
    async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
        await call_next()  # E: call-arg


async def not_a_layer(job: RunningJob) -> Returned:
    return Returned(job)


app.use(not_a_layer)  # E: type-var
app.use(5)  # E: type-var
app.middleware(not_a_layer)  # E: arg-type
