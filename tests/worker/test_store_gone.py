"""A store that is gone, slow or broken: the worker waits, says so once, and goes on."""

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from worker.harness import FaultyBroker, Log, ended, on_asyncio, until, working

from aioq import Aarq, Context
from aioq.errors import BatchRejected, BrokerError, BrokerUnavailable
from aioq.plugins import Settled, Settlement
from aioq.testing import FakeClock
from aioq.worker import _settler

Ctx = Context[Any]

ERRORS = pytest.mark.parametrize(
    "error",
    [BrokerUnavailable("gone"), BrokerError("its tables are gone"), RuntimeError("a bug")],
    ids=["gone", "broken", "bug"],
)


LOOPS = {
    "claim": "fetch",
    "settle": "settle",
    "upkeep": "upkeep",
    "renew": "leases",
    "beat": "beat",
}
"""Call -> the loop that makes it, and says so when the call is answered again."""


@ERRORS
@pytest.mark.parametrize("name", [*LOOPS, "hints", "hint"])
async def test_no_call_that_fails_for_a_while_ends_the_worker(
    app: Aarq, broker: FaultyBroker, log: Log, name: str, error: Exception
) -> None:
    go = anyio.Event()
    away = isinstance(error, BrokerUnavailable)
    back = [LOOPS[name]] if away and name in LOOPS else []

    @app.task
    async def good(ctx: Ctx) -> None:
        await go.wait()

    broker.faults[name] = error
    async with working(app, lease=0.3) as worker:
        job = await good.enqueue()
        if name == "settle":
            go.set()
        elif name == "hint":
            await until(lambda: broker._listeners)
            broker._wake()
        await until(lambda: broker.calls[name] >= (1 if name == "hint" else 2))
        broker.faults.clear()
        go.set()
        await ended(job)
        await until(lambda: broker._listeners)
        assert (await ended(await good.enqueue())).status == "completed"
        await until(lambda: len(log.of("broker.back")) >= len(back))
        assert worker._running is not None
        assert worker._running.attempts.running == 0
    assert [line["loop"] for line in log.of("broker.back")] == back
    if away:
        assert len(log.of("broker.unavailable")) == 1
    elif isinstance(error, BrokerError):
        (line,) = log.of("worker.error")
        assert line["reason"] == str(error)
        assert "exc_info" not in line, "a sentence of the broker's needs no traceback"
    else:
        assert all(line["exc_info"] for line in log.of("worker.error"))
        assert log.of("worker.error")


async def test_an_outage_of_three_leases_cancels_and_charges_nobody(log: Log) -> None:
    clock = FakeClock()
    broker = FaultyBroker(clock=clock, lease_factor=1)
    app = Aarq(broker, plugins=False)
    runs = 0
    running, go = anyio.Event(), anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        running.set()
        await go.wait()

    job = await long.enqueue()
    async with working(app, lease=0.3), working(app, lease=0.3):
        await running.wait()
        for _ in range(3):
            broker.break_all(BrokerUnavailable("gone"))
            tried = broker.calls["renew"]
            await until(lambda: broker.calls["renew"] > tried + 2)  # noqa: B023
            clock.advance(900)
            broker.faults.clear()
            renewed = broker.calls["renew"]
            await until(lambda: broker.calls["renew"] > renewed + 2)  # noqa: B023
        go.set()
        await ended(job)
    assert (job.status, job.crashes, runs) == ("completed", 0, 1)
    for line in ("job.stale", "job.lease_lost", "job.adopted"):
        assert log.of(line) == []


async def test_a_settlement_is_sent_until_it_is_answered_and_an_echo_is_no_alarm(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    """The reply is lost; by the time of the re-send the record is gone."""
    real = broker.settle
    sent: list[Any] = []

    async def forgetful(settlements: Any) -> Any:
        sent.append(settlements)
        answers = await real(settlements)
        if len(sent) == 1:
            await broker.delete([job.id])
            raise BrokerUnavailable("the reply was lost")
        return answers

    broker.settle = forgetful  # type: ignore[method-assign]

    @app.task
    async def good(ctx: Ctx) -> None: ...

    job = await good.enqueue()
    async with working(app):
        await until(lambda: len(sent) == 2)
    assert sent[0] == sent[1]
    assert log.of("job.stale") == []


@pytest.mark.parametrize("answers", [0, 2])
async def test_a_store_that_miscounts_its_answers_hangs_nobody(
    app: Aarq, broker: FaultyBroker, log: Log, answers: int
) -> None:
    real = broker.settle
    calls = 0

    async def miscount(settlements: Any) -> Any:
        nonlocal calls
        calls += 1
        right = await real(settlements)
        return ["accepted"] * answers if calls < 3 else right

    broker.settle = miscount  # type: ignore[method-assign]

    @app.task
    async def good(ctx: Ctx) -> None: ...

    jobs = [await good.enqueue() for _ in range(5)]
    async with working(app, concurrency=1) as worker:
        for job in jobs:
            await ended(job)
        assert worker._running is not None
        await until(lambda: not len(worker._running.attempts))  # type: ignore[union-attr]


async def test_a_bad_outcome_is_found_by_halving(app: Aarq, broker: FaultyBroker, log: Log) -> None:
    real = broker.settle
    sizes: list[int] = []

    async def picky(settlements: Any) -> Any:
        sizes.append(len(settlements))
        if any(item.kind == "completed" and item.result == b"13" for item in settlements):
            raise BatchRejected("unlucky")
        return await real(settlements)

    broker.settle = picky  # type: ignore[method-assign]

    @app.task(save_result=True)
    async def number(ctx: Ctx, i: int) -> int:
        return i

    jobs = await app.enqueue_many([number.job(i) for i in range(100)])
    async with working(app, concurrency=100):
        for job in jobs:
            await ended(job)
    assert [job.id for job in jobs if job.status != "completed"] == [jobs[13].id]
    assert "unlucky" in (jobs[13].error or "")
    assert len(sizes) < 30


async def test_a_full_backlog_holds_the_fetcher_back(
    app: Aarq, broker: FaultyBroker, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_settler, "BACKLOG", 20)
    gate = broker.gates["settle"] = anyio.Event()
    ran = 0

    @app.task
    async def good(ctx: Ctx) -> None:
        nonlocal ran
        ran += 1

    jobs = await app.enqueue_many([good.job() for _ in range(100)])
    async with working(app, concurrency=5):
        await until(lambda: ran >= 20)
        await anyio.sleep(0.1)
        assert ran <= 25
        del broker.gates["settle"]
        gate.set()
        for job in jobs:
            await ended(job)
    assert ran == 100


async def test_a_store_that_is_out_of_reach_at_the_start_is_an_error(
    app: Aarq, broker: FaultyBroker
) -> None:
    from aioq import Worker

    async def unreachable() -> None:
        raise BrokerUnavailable("nobody there")

    broker.open = unreachable  # type: ignore[method-assign]
    with pytest.raises(BrokerUnavailable, match="nobody there"):
        await Worker(app).run()


async def test_jobs_run_on_while_upkeep_hangs(app: Aarq, broker: FaultyBroker) -> None:
    @app.task
    async def good(ctx: Ctx) -> None: ...

    broker.gates["upkeep"] = anyio.Event()
    broker.gates["beat"] = anyio.Event()
    async with working(app):
        assert (await ended(await good.enqueue())).status == "completed"


async def test_a_broker_that_answers_too_little_is_told(
    app: Aarq, broker: FaultyBroker, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = broker.settle
    lost = [1]

    async def settle(settlements: Sequence[Settlement]) -> Sequence[Settled]:
        answers = await whole(settlements)
        return answers[lost.pop() :] if lost else answers

    monkeypatch.setattr(broker, "settle", settle)

    @app.task
    async def good(ctx: Ctx) -> None: ...

    job = await good.enqueue()
    async with working(app):
        await ended(job)
        # the record is there before the answer: the next job settles after it
        await ended(await good.enqueue())
    (line,) = log.of("worker.error")
    assert line["reason"] == (
        "the broker answered 0 of 1 settlements: settle() has to answer each, in order"
    )


@on_asyncio
@pytest.mark.parametrize("name", ["claim", "settle", "upkeep", "beat", "hints"])
async def test_a_cancel_that_a_driver_raises_itself_ends_neither_the_worker_nor_an_outcome(
    app: Aarq, broker: FaultyBroker, name: str
) -> None:
    """As when the driver's own future is cancelled: nobody has asked the worker to stop."""

    @app.task
    async def good(ctx: Ctx) -> None: ...

    broker.faults[name] = asyncio.CancelledError()
    async with working(app):
        job = await good.enqueue()
        await until(lambda: broker.calls[name] >= 2)
        broker.faults.clear()
        assert (await ended(job)).status == "completed"
        assert (await ended(await good.enqueue())).status == "completed"
