"""Group commit on the client: few calls, each numbered, and every caller with its own answer."""

import asyncio
import gc
import traceback
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from aioq import Aarq, Context, TaskDef
from aioq._records import Added, NewJob
from aioq._sender import Sender
from aioq.backends import MemoryBroker
from aioq.errors import BatchRejected, BrokerError, BrokerUnavailable, EnqueueError


@pytest.fixture
def task(app: Aarq) -> TaskDef[..., Any]:
    @app.task
    async def task(ctx: Context, n: int = 0) -> None: ...

    return task


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between re-sends, which then pass at once on a clock of their own."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("aioq._sender.anyio.sleep", sleep)
    monkeypatch.setattr("aioq._sender.monotonic", lambda: sum(slept))
    return slept


async def test_concurrent_callers_share_calls(
    app: Aarq, task: TaskDef[..., Any], broker: Any
) -> None:
    await app.open()
    jobs = await asyncio.gather(*(task.enqueue(n) for n in range(64)))
    assert len({job.id for job in jobs}) == 64
    assert len(broker.calls) <= 3
    assert broker.opened == 1
    assert sum(len(ids) for ids, _, _ in broker.calls) == 64
    assert len(await broker.list_jobs()) == 64


async def test_concurrent_first_callers_open_the_broker_once(
    task: TaskDef[..., Any], broker: Any
) -> None:
    await asyncio.gather(*(task.enqueue(n) for n in range(8)))
    assert broker.opened == 1


async def test_jobs_that_come_during_a_call_go_together_in_the_next(
    task: TaskDef[..., Any], broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, started, store = anyio.Event(), anyio.Event(), broker.enqueue

    async def held(jobs: Any, **numbered: Any) -> Any:
        started.set()
        await gate.wait()
        return await store(jobs, **numbered)

    monkeypatch.setattr(broker, "enqueue", held)
    async with anyio.create_task_group() as group:
        group.start_soon(task.enqueue, 0)
        await started.wait()
        for n in range(1, 10):
            group.start_soon(task.enqueue, n)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert [len(ids) for ids, _, _ in broker.calls] == [1, 9]


async def test_a_call_takes_no_more_than_a_batch_and_no_call_is_torn_apart(
    app: Aarq, task: TaskDef[..., Any], broker: Any
) -> None:
    broker.capabilities = broker.capabilities._replace(max_batch=10)
    await app.open()
    await asyncio.gather(*(app.enqueue_many([task.job(), task.job(), task.job()]) for _ in "12345"))
    sizes = [len(ids) for ids, _, _ in broker.calls]
    assert sum(sizes) == 15
    assert max(sizes) <= 10
    assert all(size % 3 == 0 for size in sizes)


@pytest.mark.parametrize("transactional", [True, False])
async def test_large_jobs_share_no_call_beyond_a_megabyte(transactional: bool) -> None:
    """One call of half a gigabyte would end by its deadline, and so would every repetition."""
    broker = Picky(transactional=transactional)
    weights: list[int] = []
    store = broker.enqueue

    async def weighed(jobs: Sequence[NewJob], **numbered: Any) -> list[Added]:
        weights.append(sum(len(job.body) for job in jobs))
        return await store(jobs, **numbered)

    broker.enqueue = weighed  # type: ignore[method-assign]
    sender = Sender(broker)
    jobs = [record(number)._replace(body=bytes(400_000)) for number in range(40)]
    await asyncio.gather(*(sender.send([job]) for job in jobs[:20]))
    assert (sum(weights), max(weights)) == (8_000_000, 800_000)
    weights.clear()
    await sender.send(jobs[20:])
    # a transaction is not torn apart
    assert (sum(weights), max(weights)) == (8_000_000, 8_000_000 if transactional else 800_000)
    assert len(await broker.list_jobs()) == 40


async def test_numbers_count_up_for_each_queue(app: Aarq, task: TaskDef[..., Any], broker: Any):
    @app.task(queue="other")
    async def other(ctx: Context) -> None: ...

    await task.enqueue()
    await other.enqueue()
    await app.enqueue_many([task.job(), other.job()])
    assert [numbers for _, _, numbers in broker.calls] == [
        {"default": 1},
        {"other": 1},
        {"default": 2, "other": 2},
    ]
    (producer,) = {producer for _, producer, _ in broker.calls}
    assert len(producer) == 8


async def test_a_lost_reply_is_asked_again_with_the_same_numbers_and_stores_once(
    task: TaskDef[..., Any], broker: Any, pauses: list[float]
) -> None:
    broker.lose_reply = [BrokerUnavailable("cut off"), BrokerUnavailable("cut off")]
    job = await task.enqueue(1)
    first, second, third = broker.calls
    assert first == second == third
    assert [stored.id for stored in await broker.list_jobs()] == [job.id]
    assert 0.025 <= pauses[0] <= 0.05 <= pauses[1] <= 0.1


async def test_a_store_that_comes_back_in_time_costs_nobody_a_job(
    task: TaskDef[..., Any], broker: Any, pauses: list[float]
) -> None:
    broker.broken = [BrokerUnavailable("away")] * 12
    await task.enqueue(1)
    assert len(broker.calls) == 13
    assert max(pauses) <= 2.0


async def test_patience_ends_with_an_error_for_each_caller(
    broker: Any, task: TaskDef[..., Any], pauses: list[float]
) -> None:
    broker.broken = [BrokerUnavailable("away")] * 1000
    sender = Sender(broker, patience=30.0)
    records = [task.job(n).to_record(1000) for n in range(2)]
    answers = await asyncio.gather(*(sender.send([record]) for record in records))
    assert 28.0 <= sum(pauses) <= 30.0
    for (answer,) in answers:
        assert isinstance(answer, EnqueueError)
        assert str(answer) == (
            "memory:// did not answer for 30 s (away); the job may be stored or not"
        )


async def test_time_before_an_outage_takes_nothing_of_the_patience(pauses: list[float]) -> None:
    """A long ``enqueue_many``, or a queue of callers: the store answers, only slowly."""

    class Slow(MemoryBroker):
        capabilities = MemoryBroker.capabilities._replace(max_enqueue=2)
        calls = 0

        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            self.calls += 1
            if 3 <= self.calls <= 7:
                raise BrokerUnavailable("away")
            pauses.append(20.0)
            return list(await super().enqueue(jobs, **numbered))

    answers = await Sender(Slow(), patience=30.0).send([record(n) for n in range(8)])
    assert [type(answer) for answer in answers] == [Added] * 8


async def test_who_came_last_keeps_its_own_patience(pauses: list[float]) -> None:
    """Calls that travel together are given up together; the first has waited longer then."""
    begun, go_on, late, joined = anyio.Event(), anyio.Event(), anyio.Event(), anyio.Event()

    class Away(MemoryBroker):
        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            begun.set()
            await go_on.wait()
            if sum(pauses) > 25 and not late.is_set():
                late.set()
                await joined.wait()
            raise BrokerUnavailable("away")

    sender, waited = Sender(Away(), patience=30.0), dict[int, float]()

    async def call(n: int) -> None:
        began = sum(pauses)
        (answer,) = await sender.send([record(n)])
        assert isinstance(answer, EnqueueError)
        waited[n] = sum(pauses) - began

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(call, 0)
            await begun.wait()
            group.start_soon(call, 1)
            await anyio.wait_all_tasks_blocked()
            go_on.set()
            await late.wait()
            group.start_soon(call, 2)
            await anyio.wait_all_tasks_blocked()
            joined.set()
    assert 28.0 <= waited[0] <= 30.0
    assert 28.0 <= waited[2] <= 30.0
    assert 50.0 <= waited[1] <= 60.0


async def test_each_caller_of_a_call_that_fails_has_an_error_of_its_own() -> None:
    app = Aarq(Refusing(), plugins=False)

    @app.task
    async def task(ctx: Context, n: int) -> None: ...

    async def call(n: int) -> EnqueueError:
        with pytest.raises(EnqueueError, match="disk") as refused:
            await task.enqueue(n)
        refused.value.add_note(f"call {n}")
        return refused.value

    await app.open()
    errors = await asyncio.gather(*map(call, range(50)))
    assert len({id(error) for error in errors}) == 50
    for n, error in enumerate(errors):
        assert [note for note in error.__notes__ if "call" in note] == [f"call {n}"]
        assert isinstance(error.__cause__, OSError)
        numbers = {
            frame.f_locals["n"]
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_code is call.__code__
        }
        assert numbers == {n}


class Refusing(MemoryBroker):
    async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
        await anyio.lowlevel.checkpoint()
        raise OSError("disk")


class Picky(MemoryBroker):
    """Rejects batches that hold a job of the task ``bad``."""

    def __init__(self, *, transactional: bool) -> None:
        super().__init__()
        self.capabilities = self.capabilities._replace(transactional_batches=transactional)

    async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
        await anyio.lowlevel.checkpoint()
        if any(job.task == "bad" for job in jobs):
            raise BatchRejected("bad item")
        return list(await super().enqueue(jobs, **numbered))


def record(number: int, task: str = "good") -> NewJob:
    return NewJob(f"00000000-0000-4000-8000-{number:012}", "q", task, b"\x90", b"")


@pytest.mark.parametrize("transactional", [True, False])
async def test_a_bad_item_fails_its_caller_and_nobody_else(transactional: bool) -> None:
    broker = Picky(transactional=transactional)
    sender = Sender(broker)
    answers = await asyncio.gather(
        *(sender.send([record(n, "bad" if n in (7, 20) else "good")]) for n in range(33))
    )
    for n, (answer,) in enumerate(answers):
        if n in (7, 20):
            assert isinstance(answer, EnqueueError)
            assert str(answer) == "the store refused it: bad item"
        else:
            assert isinstance(answer, Added)
            assert answer.status == "new"
    assert len(await broker.list_jobs()) == 31


async def test_with_transactions_a_bad_item_fails_the_whole_of_its_own_call() -> None:
    broker = Picky(transactional=True)
    answers = await Sender(broker).send([record(1), record(2, "bad"), record(3)])
    assert [str(answer) for answer in answers] == ["the store refused it: bad item"] * 3
    assert await broker.list_jobs() == []


async def test_without_transactions_a_bad_item_fails_alone() -> None:
    broker = Picky(transactional=False)
    answers = await Sender(broker).send([record(1), record(2, "bad"), record(3)])
    assert [isinstance(answer, Added) for answer in answers] == [True, False, True]
    assert len(await broker.list_jobs()) == 2


async def test_a_caller_that_is_cancelled_leaves_the_others_unharmed(
    task: TaskDef[..., Any], broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, started, store = anyio.Event(), anyio.Event(), broker.enqueue

    async def held(jobs: Any, **numbered: Any) -> Any:
        started.set()
        await gate.wait()
        return await store(jobs, **numbered)

    monkeypatch.setattr(broker, "enqueue", held)
    first = asyncio.ensure_future(task.enqueue(1))
    await started.wait()
    second, third = (asyncio.ensure_future(task.enqueue(n)) for n in (2, 3))
    await anyio.wait_all_tasks_blocked()
    first.cancel()
    second.cancel()
    await anyio.wait_all_tasks_blocked()
    gate.set()
    assert (await third).args == (3,)
    assert first.cancelled()
    assert second.cancelled()
    assert len(await broker.list_jobs()) == 3


async def test_the_sending_task_does_not_inherit_a_callers_context(
    task: TaskDef[..., Any], broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextvars import ContextVar

    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []
    store = broker.enqueue

    async def look(jobs: Any, **numbered: Any) -> Any:
        seen.append(request.get())
        return await store(jobs, **numbered)

    monkeypatch.setattr(broker, "enqueue", look)
    request.set("mine")
    await task.enqueue()
    assert seen == ["none"]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_sender_that_is_stopped_answers_those_who_wait(count: int) -> None:
    class Stopped(MemoryBroker):
        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            raise asyncio.CancelledError

    sender = Sender(Stopped())
    for answer in await sender.send([record(n) for n in range(count)]):
        assert isinstance(answer, EnqueueError)
        assert str(answer) == "the enqueue was interrupted (CancelledError()); it may be stored"


class Panic(BaseException):
    """What a driver may raise that is no ``Exception``."""


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [(asyncio.CancelledError, None), (Panic, "the enqueue was interrupted (Panic())")],
)
async def test_what_a_driver_raises_leaves_nobody_waiting(
    breaks: type[BaseException], reason: str | None
) -> None:
    """A cancel of its own is one failed call; whatever else it is, all are answered."""
    gate = anyio.Event()

    class Breaks(MemoryBroker):
        calls = 0

        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            self.calls += 1
            if self.calls == 1:
                await gate.wait()
                raise breaks
            return list(await super().enqueue(jobs, **numbered))

    sender = Sender(Breaks())
    first = asyncio.ensure_future(sender.send([record(1), record(2)]))
    await anyio.wait_all_tasks_blocked()
    behind = [asyncio.ensure_future(sender.send([record(n)])) for n in (3, 4, 5)]
    await anyio.wait_all_tasks_blocked()
    gate.set()
    with anyio.fail_after(30):
        for answer in await first:
            assert "it may be stored" in str(answer)
        for (answer,) in await asyncio.gather(*behind):
            if reason is None:
                assert isinstance(answer, Added)
            else:
                assert str(answer) == f"{reason}: it is not stored"
        (answer,) = await sender.send([record(6)])
        assert isinstance(answer, Added), "the next finds it ready"
    task: Any = sender._task
    assert task.done()
    assert task.cancelled() or isinstance(task.exception(), Panic | None)


async def test_a_cancel_of_the_stores_own_ends_not_what_is_sent_for_nobody() -> None:
    """The caller is gone; those behind it are not."""
    started = anyio.Event()

    class Breaks(MemoryBroker):
        calls = 0

        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            self.calls += 1
            if self.calls == 1:
                started.set()
                await anyio.sleep_forever()
            if self.calls == 2:
                raise asyncio.CancelledError
            return list(await super().enqueue(jobs, **numbered))

    sender = Sender(Breaks())
    gone = asyncio.ensure_future(sender.send([record(1)]))
    with anyio.fail_after(30):
        await started.wait()
        behind = asyncio.ensure_future(sender.send([record(2)]))
        await anyio.wait_all_tasks_blocked()
        gone.cancel()
        (answer,) = await behind
    assert isinstance(answer, Added)
    assert gone.cancelled()


async def test_who_enqueues_while_the_app_is_closed_is_told_so() -> None:
    class Slow(MemoryBroker):
        def __init__(self) -> None:
            super().__init__()
            self.started, self.closed, self.open_now = anyio.Event(), anyio.Event(), False

        async def open(self) -> None:
            self.open_now = True

        async def close(self) -> None:
            self.open_now = False
            self.closed.set()

        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            if not self.started.is_set():
                self.started.set()
                await self.closed.wait()
            if not self.open_now:
                raise BrokerError("memory:// is not open: use 'async with broker'")
            return list(await super().enqueue(jobs, **numbered))

    broker = Slow()
    app = Aarq(broker, plugins=False)

    @app.task
    async def task(ctx: Context, n: int) -> None: ...

    calls = [asyncio.ensure_future(task.enqueue(n)) for n in range(3)]
    with anyio.fail_after(30):
        await broker.started.wait()
        await anyio.wait_all_tasks_blocked()
        await app.close()
        on_its_way, *waiting = await asyncio.gather(*calls, return_exceptions=True)
        for error in waiting:
            assert isinstance(error, EnqueueError)
            assert str(error) == "the app was closed before the job was sent: it is not stored"
        assert isinstance(on_its_way, EnqueueError)
        assert str(on_its_way) == (
            "the app was closed while the job was sent (memory:// is not open: use 'async with "
            "broker'); it may be stored or not"
        )
        await task.enqueue(4)
    assert [job.args for job in await broker.list_jobs()] == [(4,)]


async def test_who_is_cancelled_while_its_job_is_sent_has_it_stored_once() -> None:
    """In the midst of the call: nobody knows whether the store has it, so it is sent again."""

    class Slow(MemoryBroker):
        def __init__(self) -> None:
            super().__init__()
            self.numbers: list[dict[str, int]] = []
            self.stored, self.again = anyio.Event(), anyio.Event()

        async def enqueue(self, jobs: Any, *, numbers: Any, **more: Any) -> list[Added]:
            answers = list(await super().enqueue(jobs, numbers=numbers, **more))
            self.numbers.append(dict(numbers))
            if len(self.numbers) == 1:
                self.stored.set()
                await anyio.sleep_forever()
            self.again.set()
            return answers

    broker = Slow()
    sender = Sender(broker)
    async with anyio.create_task_group() as group:
        group.start_soon(sender.send, [record(1)])
        await broker.stored.wait()
        group.cancel_scope.cancel()
    with anyio.fail_after(30):
        await broker.again.wait()
    assert broker.numbers == [{"q": 1}, {"q": 1}]
    assert [job.id for job in await broker.list_jobs()] == [record(1).id]
    (answer,) = await sender.send([record(2)])
    assert isinstance(answer, Added)
    assert broker.numbers[2:] == [{"q": 2}]


def test_a_loop_that_ends_while_jobs_are_sent_leaves_no_task_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Silent(MemoryBroker):
        async def enqueue(self, jobs: Any, **numbered: Any) -> list[Added]:
            await anyio.sleep_forever()
            raise AssertionError

    app = Aarq(Silent(), plugins=False)

    @app.task
    async def task(ctx: Context) -> None: ...

    async def main() -> None:
        callers = [asyncio.ensure_future(task.enqueue()) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        assert not any(caller.done() for caller in callers)

    asyncio.run(main())
    gc.collect()
    assert caplog.messages == []
