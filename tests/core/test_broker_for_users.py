"""The broker's methods for users, which are written once for every store."""

from datetime import timedelta
from typing import Any

import pytest

from aioq import Aarq, Context, TaskDef
from aioq._broker import BaseBroker
from aioq._records import WorkerInfo
from aioq.errors import InvalidOption, NotSupported
from aioq.testing import FakeClock

ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def task(app: Aarq) -> TaskDef[..., Any]:
    @app.task
    async def task(ctx: Context, n: int = 0) -> None: ...

    return task


@pytest.fixture
def other(app: Aarq) -> TaskDef[..., Any]:
    @app.task(queue="other")
    async def other(ctx: Context) -> None: ...

    return other


async def test_an_unknown_job_is_none(broker: Any) -> None:
    assert await broker.get_job(ABSENT) is None


async def test_a_broker_is_a_context_manager(broker: Any) -> None:
    async with broker as opened:
        assert opened is broker
        assert broker.opened == 1


async def test_jobs_are_listed_newest_first_page_by_page(
    broker: Any, task: TaskDef[..., Any]
) -> None:
    sent = [(await task.enqueue(n)).id for n in range(5)]
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        page = await broker.list_jobs(limit=2, cursor=cursor)
        assert len(page) == size
        seen += [job.id for job in page]
        cursor = page.cursor
    assert cursor is None
    assert seen == sent[::-1]


async def test_a_listing_can_be_narrowed(
    broker: Any, task: TaskDef[..., Any], other: TaskDef[..., Any], hand: Any
) -> None:
    one, two, three = await task.enqueue(), await task.enqueue(), await other.enqueue()
    await hand.fail("ValueError: x")

    async def ids(**where: Any) -> list[str]:
        return [job.id for job in await broker.list_jobs(**where)]

    assert await ids(queue="other") == [three.id]
    assert await ids(task=task.name) == [two.id, one.id]
    assert await ids(status="failed") == [one.id]
    assert await ids(status=["failed", "pending"], queue="default") == [two.id, one.id]
    assert await ids(status=[]) == []


@pytest.mark.parametrize("status", ["lost", ["pending", "lost"]])
async def test_an_unknown_status_is_refused_with_the_known_ones(broker: Any, status: Any) -> None:
    for call in (broker.list_jobs(status=status), broker.purge("default", status)):
        with pytest.raises(InvalidOption) as refused:
            await call
        assert str(refused.value) == (
            "unknown status 'lost'; a status is one of pending, scheduled, running, retrying, "
            "completed, failed, cancelled, dead"
        )


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_page_holds_at_least_one_job(broker: Any, limit: int) -> None:
    with pytest.raises(InvalidOption, match=f"(?m)^limit must be at least 1, got {limit}$"):
        await broker.list_jobs(limit=limit)


async def test_the_stats_count_by_queue_and_status(
    broker: Any, task: TaskDef[..., Any], other: TaskDef[..., Any], hand: Any, clock: FakeClock
) -> None:
    for _ in range(3):
        await task.enqueue()
    await task.options(delay=60).enqueue()
    await other.enqueue()
    await hand.complete(task)
    await hand.claim()
    clock.advance(2000)
    first, second = await broker.queue_stats()
    assert (first.queue, first.pending, first.scheduled) == ("default", 1, 1)
    assert (first.running, first.completed, first.oldest_due) == (1, 1, 2.0)
    assert (second.queue, second.pending, second.failed) == ("other", 1, 0)


async def test_a_failed_dead_or_cancelled_job_goes_back_to_pending(
    broker: Any, task: TaskDef[..., Any], hand: Any
) -> None:
    for kind in ("failed", "dead", "cancelled"):
        job = await task.enqueue(1)
        await hand.fail("ValueError: x", kind)
        assert await broker.retry_job(job.id)
        await job.refresh()
        assert (job.status, job.retries, job.error) == ("pending", 0, None)
        assert not await broker.retry_job(job.id)
        await hand.complete(task)
        assert not await broker.retry_job(job.id)


async def test_cancel_job_tells_whether_it_came_in_time(
    broker: Any, task: TaskDef[..., Any], hand: Any
) -> None:
    job = await task.enqueue()
    assert await broker.cancel_job(job.id)
    assert not await broker.cancel_job(job.id)
    assert (await job.refresh()).status == "cancelled"


async def test_delete_job_removes_all_but_running_jobs(
    broker: Any, task: TaskDef[..., Any], hand: Any
) -> None:
    job = await task.enqueue()
    delivery = await hand.claim()
    assert not await broker.delete_job(job.id)
    await hand.settle(delivery, "completed")
    assert await broker.delete_job(job.id)
    assert not await broker.delete_job(job.id)


async def test_a_paused_queue_takes_jobs_and_gives_none(
    broker: Any, task: TaskDef[..., Any], hand: Any
) -> None:
    await broker.pause_queue("default")
    await task.enqueue()
    assert not (await broker.claim(["default"], 1, worker=hand.worker, lease_ms=1)).jobs
    (stats,) = await broker.queue_stats()
    assert stats.paused
    assert stats.pending == 1
    await broker.resume_queue("default")
    await hand.complete(task)


async def test_purge_empties_a_queue_but_for_what_runs(
    broker: Any, task: TaskDef[..., Any], other: TaskDef[..., Any], hand: Any
) -> None:
    running = await task.enqueue()
    await hand.claim()
    await task.enqueue()
    await task.options(delay=60).enqueue()
    kept = await other.enqueue()
    assert await broker.purge("default", status="scheduled") == 1
    assert await broker.purge("default") == 1
    assert {job.id for job in await broker.list_jobs()} == {running.id, kept.id}


async def test_purge_goes_on_until_nothing_is_left(
    broker: Any, task: TaskDef[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq._broker.PRUNE_BATCH", 2)
    for _ in range(5):
        await task.enqueue()
    assert await broker.purge("default") == 5


@pytest.mark.parametrize("age", [60, 60.0, timedelta(minutes=1)])
async def test_prune_deletes_what_finished_longer_ago(
    broker: Any, task: TaskDef[..., Any], hand: Any, clock: FakeClock, age: Any
) -> None:
    await task.enqueue()
    await hand.complete(task)
    clock.advance(59_999)
    assert await broker.prune(age) == 0
    live = await task.enqueue()
    clock.advance(1)
    assert await broker.prune(age) == 1
    assert [job.id for job in await broker.list_jobs()] == [live.id]


@pytest.mark.parametrize("age", [-1, float("nan"), 1e300, timedelta(-1), True, "a week"])
async def test_prune_wants_a_duration(broker: Any, age: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^older_than must be a number, not negative, of sec"):
        await broker.prune(age)


async def test_living_workers_are_listed(broker: Any) -> None:
    info = WorkerInfo(ABSENT, "host", 1, ("default",), 10, "0.1")
    await broker.beat(info)
    (worker,) = await broker.list_workers()
    assert worker._replace(seen_ago=0.0) == info
    await broker.forget(ABSENT)
    assert await broker.list_workers() == []


async def test_workers_may_beat_in_other_threads_while_they_are_listed(broker: Any) -> None:
    class Meanwhile(WorkerInfo):
        __slots__ = ()

        def _replace(self, **fields: Any) -> Any:
            broker._workers["another"] = (self, broker._now())
            return super()._replace(**fields)

    await broker.beat(Meanwhile(ABSENT, "host", 1, ("default",), 10, "0.1"))
    assert [worker.id for worker in await broker.list_workers()] == [ABSENT]


class Small(BaseBroker):
    """A broker with the calls it must have, and no other."""


for name in BaseBroker.__abstractmethods__:
    setattr(Small, name, None)
Small.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a loop that polls, which pass at once."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("aioq._contract.anyio.sleep", sleep)
    return slept


async def test_a_broker_that_cannot_watch_polls_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch, task: TaskDef[..., Any], hand: Any, pauses: list[float]
) -> None:
    job = await task.enqueue()
    small = Small()  # type: ignore[abstract]

    async def get(ids: Any) -> Any:
        if ids == [job.id] and len(pauses) == 20:
            await hand.complete(task)
        return await hand.broker.get(ids)

    monkeypatch.setattr(small, "get", get)
    info = await small.wait_finished(job.id)
    assert info is not None
    assert info.status == "completed"
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.01, 1.0)
    assert await small.wait_finished(ABSENT) is None


async def test_a_broker_that_cannot_call_lets_its_worker_look_once_a_second(
    pauses: list[float],
) -> None:
    room = iter([0, 0, 5])
    hints = Small().hints(WorkerInfo(ABSENT, "h", 1, (), 1, "0"), lambda: next(room))  # type: ignore[abstract]
    hint = await anext(hints)
    assert (hint.queue, hint.cancel) == (None, None)
    assert pauses == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("call", "arguments", "what"),
    [
        ("cancel_job", (ABSENT,), "cancel jobs"),
        ("retry_job", (ABSENT,), "requeue jobs"),
        ("list_jobs", (), "list jobs"),
        ("delete_job", (ABSENT,), "delete jobs"),
        ("purge", ("q",), "delete jobs"),
        ("prune", (1,), "delete jobs"),
        ("pause_queue", ("q",), "pause queues"),
        ("resume_queue", ("q",), "pause queues"),
        ("list_workers", (), "list workers"),
    ],
)
async def test_what_a_broker_leaves_out_it_says(call: str, arguments: Any, what: str) -> None:
    with pytest.raises(NotSupported, match=f"(?m)^Small cannot {what}$"):
        await getattr(Small(), call)(*arguments)  # type: ignore[abstract]
