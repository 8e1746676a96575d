"""Enqueueing, one job and many: what is stored, what is refused, and what is said about it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest

from aioq import Aarq, Context, Job, Middleware, TaskDef
from aioq._sender import Sender
from aioq.errors import (
    AioqError,
    BatchRejected,
    BrokerUnavailable,
    EnqueueError,
    EnqueueManyError,
    InvalidOption,
    JobExists,
    PayloadTooLarge,
    SerializationError,
)
from aioq.middleware import Send
from aioq.testing import FakeClock


@pytest.fixture
def add(app: Aarq) -> TaskDef[..., Any]:
    @app.task
    async def add(ctx: Context, a: int, b: int = 0) -> int: ...

    return add


async def test_an_enqueued_job_is_in_the_store(
    app: Aarq, add: TaskDef[..., Any], clock: FakeClock
) -> None:
    job = await add.enqueue(1, b=2)
    assert UUID(job.id).version == 7
    stored = await app.broker.get_job(job.id)
    for one in (job, stored):
        assert (one.id, one.task_name, one.queue) == (job.id, add.name, "default")
        assert (one.args, one.kwargs) == ((1,), {"b": 2})
        assert (one.status, one.retries, one.crashes) == ("pending", 0, 0)
        assert one.enqueued_at == one.run_at
        assert one.enqueued_at.timestamp() * 1000 == clock()
        assert (
            one.started_at is one.completed_at is one.worker_id is one.result is one.error is None
        )


async def test_the_first_enqueue_opens_the_broker_and_only_the_first(
    add: TaskDef[..., Any], broker: Any
) -> None:
    assert broker.opened == 0
    await add.enqueue(1)
    await add.enqueue(2)
    assert broker.opened == 1


async def test_who_enqueues_while_the_app_closes_has_it_open_afterwards(
    app: Aarq, add: TaskDef[..., Any], broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any enqueue outside a block: the next block does not close the broker under it."""
    closing, go = anyio.Event(), anyio.Event()
    ends = 0

    async def close() -> None:
        nonlocal ends
        ends += 1
        closing.set()
        await go.wait()

    monkeypatch.setattr(broker, "close", close)
    await add.enqueue(1)
    async with anyio.create_task_group() as group:
        group.start_soon(app.close)
        await closing.wait()
        group.start_soon(add.enqueue, 2)
        await anyio.wait_all_tasks_blocked()
        go.set()
    async with app:
        await add.enqueue(3)
    assert ends == 1


async def test_an_app_can_be_opened_closed_and_used_again(
    app: Aarq, add: TaskDef[..., Any], broker: Any
) -> None:
    async with app:
        assert broker.opened == 1
        await add.enqueue(1)
    await add.enqueue(2)
    assert broker.opened == 2


@pytest.mark.parametrize("closed_first", [False, True])
async def test_a_first_enqueue_that_fails_leaves_a_later_block_its_end(
    app: Aarq,
    add: TaskDef[..., Any],
    broker: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    closed_first: bool,
) -> None:
    """Not so an enqueue that opened the broker: it stays open for the next."""
    ends: list[str] = []

    async def close() -> None:
        ends.append("closed")

    async def refuse() -> None:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(broker, "close", close)
    with monkeypatch.context() as patch:
        patch.setattr(broker, "open", refuse)
        with pytest.raises(BrokerUnavailable):
            await add.enqueue(1)
    if closed_first:
        await app.close()
    async with app:
        await add.enqueue(2)
    assert ends == ["closed"]
    await add.enqueue(3)
    async with app:
        await add.enqueue(4)
    assert ends == ["closed"], "it was open before the block"
    await app.close()
    assert ends == ["closed"] * 2


def test_an_app_can_be_used_from_one_event_loop_after_another(
    add: TaskDef[..., Any], broker: Any
) -> None:
    for n in range(3):
        asyncio.run(add.enqueue(n))
    assert broker.opened == 3
    assert len({producer for _, producer, _ in broker.calls}) == 3


async def test_an_app_that_never_found_a_broker_can_be_closed() -> None:
    await Aarq().close()


async def test_many_jobs_of_many_queues_go_in_one_call(
    app: Aarq, add: TaskDef[..., Any], broker: Any
) -> None:
    @app.task(queue="mail")
    async def send(ctx: Context, to: str) -> None: ...

    jobs = [add.job(1), send.job("x"), add.options(priority=3).job(2)]
    assert all(job.enqueued_at is None for job in jobs)
    sent = await app.enqueue_many(jobs)
    assert sent == jobs
    assert all(job.enqueued_at is not None for job in jobs)
    ((ids, _, numbers),) = broker.calls
    assert ids == [job.id for job in jobs]
    assert numbers == {"default": 1, "mail": 1}
    stored = await broker.list_jobs()
    assert [job.queue for job in reversed(stored)] == ["default", "mail", "default"]


async def test_enqueueing_nothing_is_nothing(app: Aarq, broker: Any) -> None:
    assert await app.enqueue_many([]) == []
    assert broker.calls == []


async def test_any_iterable_of_jobs_will_do(app: Aarq, add: TaskDef[..., Any]) -> None:
    assert len(await app.enqueue_many(add.job(n) for n in range(3))) == 3


async def test_more_jobs_than_a_store_takes_at_once_go_in_several_calls(
    app: Aarq, add: TaskDef[..., Any], broker: Any
) -> None:
    broker.capabilities = broker.capabilities._replace(max_enqueue=4, max_batch=4)
    await app.enqueue_many([add.job(n) for n in range(10)])
    assert [len(ids) for ids, _, _ in broker.calls] == [4, 4, 2]
    assert [numbers["default"] for _, _, numbers in broker.calls] == [1, 2, 3]


async def test_a_taken_id_is_refused_and_stored_once(app: Aarq, add: TaskDef[..., Any]) -> None:
    own = add.options(job_id=str(uuid4()))
    first = await own.enqueue(1)
    with pytest.raises(JobExists) as refused:
        await own.enqueue(2)
    assert str(refused.value) == (
        f"a job with id {first.id} exists already: it is live, or its record is kept"
    )
    (stored,) = await app.broker.list_jobs()
    assert stored.args == (1,)


async def test_an_id_stays_taken_while_the_record_is_kept(
    add: TaskDef[..., Any], hand: Any
) -> None:
    own = add.options(job_id=str(uuid4()))
    await own.enqueue(1)
    await hand.complete(add)
    with pytest.raises(JobExists):
        await own.enqueue(1)


async def test_enqueue_many_says_which_jobs_were_not_accepted(
    app: Aarq, add: TaskDef[..., Any]
) -> None:
    taken = await add.options(job_id=str(uuid4())).enqueue(0)
    fresh, again = add.job(1), add.options(job_id=taken.id).job(2)
    with pytest.raises(EnqueueManyError) as refused:
        await app.enqueue_many([fresh, again])
    error = refused.value
    assert error.accepted == [fresh.id]
    assert list(error.errors) == [again.id]
    assert isinstance(error.errors[again.id], JobExists)
    assert str(error) == (
        f"1 of 2 jobs were not enqueued (1 were); the first reason: a job with id {taken.id} "
        f"exists already: it is live, or its record is kept"
    )
    assert fresh.enqueued_at is not None
    assert again.enqueued_at is None


async def test_a_payload_over_the_limit_is_refused_and_nothing_of_its_call_sent(
    app: Aarq, broker: Any
) -> None:
    broker.max_payload = 1000

    @app.task
    async def keep(ctx: Context, text: str) -> None: ...

    small, large = keep.job("x"), keep.job("x" * 1000)
    with pytest.raises(PayloadTooLarge) as refused:
        await app.enqueue_many([small, large])
    assert str(refused.value) == (
        f"the arguments of job {large.id} of task {keep.name!r} take 1,034 bytes, the limit is "
        f"1,000: store the data elsewhere and pass a reference, or raise the broker's max_payload"
    )
    assert isinstance(refused.value, ValueError)
    assert broker.calls == []


@pytest.mark.parametrize("size", [0, -1])
def test_a_broker_wants_a_limit_above_zero(size: int) -> None:
    from aioq.backends import MemoryBroker

    with pytest.raises(InvalidOption, match="max_payload must be a positive number of bytes, got"):
        MemoryBroker(max_payload=size)
    with pytest.raises(InvalidOption, match="max_crashes must be at least 3, got 2"):
        MemoryBroker(max_crashes=2)


async def test_a_looked_up_job_cannot_be_sent_again(app: Aarq, add: TaskDef[..., Any]) -> None:
    job = await app.broker.get_job((await add.enqueue(1)).id)
    with pytest.raises(AioqError, match=r"cannot be sent again: make a new one with task\.job"):
        await app.enqueue_many([job])


async def test_a_queue_that_no_task_declares_warns_once_and_points_at_the_caller(
    app: Aarq, add: TaskDef[..., Any]
) -> None:
    with pytest.warns(RuntimeWarning) as warned:
        await add.options(queue="lonely").enqueue(1)
    await add.options(queue="lonely").enqueue(2)
    (warning,) = warned
    assert warning.filename == __file__
    assert str(warning.message) == (
        "no task of this app declares the queue 'lonely': a worker serves it only when told to, "
        "'aioq worker ... -q lonely'"
    )


async def test_headers_added_by_middleware_travel_with_the_job(
    app: Aarq, add: TaskDef[..., Any]
) -> None:
    class Tenant(Middleware):
        async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
            for job in jobs:
                job.headers["tenant"] = "blue"
            await call_next(jobs)

    app.use(Tenant())
    job = await add.enqueue(1)
    assert (await app.broker.get_job(job.id)).headers == {"tenant": "blue"}


@pytest.mark.parametrize(("name", "value"), [("n", 5), (5, "v"), ("n", None), ("n", "\ud800")])
async def test_a_header_that_is_not_text_is_refused_here_and_not_by_the_worker(
    app: Aarq, add: TaskDef[..., Any], broker: Any, name: Any, value: Any
) -> None:
    class Wrong(Middleware):
        async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
            jobs[0].headers[name] = value
            await call_next(jobs)

    app.use(Wrong())
    with pytest.raises(SerializationError, match=r"^a header must be text: "):
        await add.enqueue(1)
    assert broker.calls == []


async def test_middleware_that_raises_keeps_the_job_from_the_store(
    app: Aarq, add: TaskDef[..., Any], broker: Any
) -> None:
    class Closed(Middleware):
        async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
            raise LookupError("closed")

    app.use(Closed())
    with pytest.raises(LookupError, match="closed"):
        await add.enqueue(1)
    assert broker.calls == []


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (BatchRejected("no such column"), EnqueueError, "the store refused it: no such column"),
        (OSError("disk"), EnqueueError, "the enqueue failed: OSError: disk"),
        (AioqError("closed"), AioqError, "closed"),
    ],
)
async def test_what_the_store_answers_reaches_the_caller(
    add: TaskDef[..., Any], broker: Any, error: Any, expected: Any, message: str
) -> None:
    broker.broken = [error]
    with pytest.raises(expected) as raised:
        await add.enqueue(1)
    assert type(raised.value) is expected
    assert str(raised.value) == message


async def test_a_store_that_stays_away_is_an_error_that_says_the_job_may_be_stored(
    broker: Any, add: TaskDef[..., Any]
) -> None:
    broker.broken = [BrokerUnavailable("connection refused")]
    sender = Sender(broker, patience=0)
    (answer,) = await sender.send([add.job(1).to_record(1000)])
    assert isinstance(answer, EnqueueError)
    assert str(answer) == (
        "memory:// did not answer for 0 s (connection refused); the job may be stored or not"
    )


async def test_the_arguments_are_stored_as_json(add: TaskDef[..., Any], hand: Any) -> None:
    await add.enqueue(1, b=2)
    delivery = await hand.claim()
    assert delivery.body.startswith(b"AQ\x01")
    assert json.dumps([[1], {"b": 2}], separators=(",", ":")).encode() in delivery.body
