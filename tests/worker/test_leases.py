"""Leases: a job is run by one worker at a time, and by another one when that is silent."""

import time
from collections.abc import Callable
from contextvars import Context as Variables
from typing import Any
from uuid import uuid4

import anyio
import pytest
from worker.harness import (
    OTHER,
    PATIENCE,
    FaultyBroker,
    Log,
    drain,
    ended,
    on_asyncio,
    until,
    working,
)

from aioq import Aarq, Context, Middleware
from aioq.errors import BrokerUnavailable
from aioq.middleware import RunningJob
from aioq.plugins import Settlement
from aioq.testing import FakeClock
from aioq.worker import WorkerOptions, _leases
from aioq.worker._attempts import Attempts
from aioq.worker._health import Health

pytestmark = pytest.mark.both_loops

Ctx = Context[Any]


class Told(Middleware):
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def settled(self, job: RunningJob, outcome: object) -> None:
        self.outcomes.append(type(outcome).__name__)


LEASE = 0.4


class Time:
    """The store's clock, moved by the test: as far as it likes, but never past a renewal."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.broker = FaultyBroker(clock=self.clock, lease_factor=1)
        self._seen = 0

    def renewed(self) -> bool:
        """Whether all that is held has been renewed since the time was moved."""
        return self.broker.calls["renew"] >= self._seen + 2  # the one counted last may be under way

    def pass_by(self) -> None:
        """Most of half a lease, which the store does not take for an outage; then another process
        looks after expired leases."""
        self.clock.advance(int(LEASE * 450))
        self.broker._store.upkeep(int(LEASE * 1000), 500)
        self._seen = self.broker.calls["renew"]

    def block(self, until: Callable[[], object]) -> None:
        """Block this thread while time passes, and others look after expired leases."""
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < deadline
            if self.renewed():
                self.pass_by()
            time.sleep(0.01)


@pytest.fixture
def store(log: Log) -> Time:
    return Time()


@on_asyncio
async def test_a_long_job_keeps_its_lease(store: Time) -> None:
    app = Aarq(store.broker, plugins=False)
    runs = 0

    @app.task
    async def long(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        while store.clock.elapsed_ms < 3000 * LEASE:
            await until(store.renewed)
            store.pass_by()

    async with working(app, lease=LEASE), working(app, lease=LEASE):
        job = await ended(await long.enqueue())
    assert (job.status, job.crashes, runs) == ("completed", 0, 1)


@on_asyncio
async def test_a_job_that_blocks_the_loop_is_not_run_twice_and_is_named(
    store: Time, log: Log
) -> None:
    app = Aarq(store.broker, plugins=False)
    runs = 0

    @app.task
    async def blocker(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        assert worker._running is not None
        keeper = worker._running._leases
        await until(lambda: not keeper._warned)  # of anything before this job
        store.block(lambda: named(ctx.job_id) and store.clock.elapsed_ms > 3000 * LEASE)

    def named(job_id: str) -> list[dict[str, Any]]:
        return [line for line in log.of("worker.loop_blocked") if line["job_id"] == job_id]

    async with working(app, lease=LEASE) as worker:
        job = await ended(await blocker.enqueue())
    assert (job.status, job.crashes, runs) == ("completed", 0, 1)
    line, *_ = named(job.id)
    assert line["task"] == blocker.name
    assert line["stack"].splitlines()[0].endswith("in blocker"), "it begins in the task"


@on_asyncio
async def test_neighbours_of_a_blocker_move_to_another_worker(
    store: Time, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq.worker._leases.UNSTARTED_LIMIT", 0.2)
    app = Aarq(store.broker, plugins=False)
    here: list[str] = []
    taken: list[str] = []

    @app.task
    async def blocker(ctx: Ctx) -> None:
        store.block(other_worker_has_both)

    def other_worker_has_both() -> bool:
        claimed = store.broker._store.claim(["default"], 5, OTHER, 400, 1_000_000, False)
        for delivery in claimed.jobs:
            taken.append(delivery.id)
            store.broker._store.settle([Settlement(delivery.token, "completed")])
        return len(taken) >= 2

    @app.task
    async def neighbour(ctx: Ctx) -> None:
        here.append(ctx.job_id)

    await blocker.enqueue()
    jobs = [await neighbour.enqueue() for _ in range(2)]
    async with working(app, lease=LEASE):
        await until(lambda: len(log.of("job.stale")) == 2)
    for job in jobs:
        await job.refresh()
    assert sorted(taken) == sorted(job.id for job in jobs)
    assert here == []
    assert {job.worker_id for job in jobs} == {OTHER}
    assert {line["job_id"] for line in log.of("job.stale")} == set(taken)


class Rounds:
    """In place of the lease thread's waits: how late each ends, and how long the process has worked
    meanwhile. The loop does not turn in any of them."""

    def __init__(self, rounds: list[tuple[float, float]]) -> None:
        self._rounds = rounds
        self.now = self.worked = 1000.0

    def wait(self, timeout: float) -> bool:
        if not self._rounds:
            return True
        late, worked = self._rounds.pop(0)
        self.now += timeout + late
        self.worked += worked
        return False


ON_TIME, PAUSED, BUSY = (0.0, 0.0), (5.0, 0.1), (5.0, 4.9)


@on_asyncio
@pytest.mark.parametrize(
    ("rounds", "blocks"),
    [
        pytest.param([ON_TIME] * 6, 1, id="the loop is blocked"),
        pytest.param([PAUSED] + [ON_TIME] * 2, 0, id="all stood still"),
        pytest.param([PAUSED] * 3, 0, id="all stood still again and again"),
        pytest.param([PAUSED] + [ON_TIME] * 6, 1, id="blocked after all stood still"),
        pytest.param([ON_TIME] * 6 + [PAUSED] + [ON_TIME] * 6, 1, id="all stood still amid it"),
        pytest.param([BUSY], 1, id="blocked by what keeps the interpreter lock"),
    ],
)
async def test_only_a_loop_that_could_turn_is_called_blocked(
    broker: FaultyBroker,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    rounds: list[tuple[float, float]],
    blocks: int,
) -> None:
    script = Rounds([*rounds])
    monkeypatch.setattr(_leases, "monotonic", lambda: script.now)
    monkeypatch.setattr(_leases.time, "process_time", lambda: script.worked)
    keeper = _leases.LeaseKeeper(broker, Attempts(1), WorkerOptions(), Health(), log, Variables())
    monkeypatch.setattr(keeper, "_stop", script)
    keeper._run()
    assert len(log.of("worker.loop_blocked")) == blocks


async def lose(broker: FaultyBroker, job_id: str) -> None:
    """The job's lease runs out, and another worker has it now."""
    broker.take_away(job_id)
    (delivery,) = (await broker.claim_as(OTHER)).jobs
    assert delivery.id == job_id


@pytest.mark.parametrize("choice", ["cancel", "continue"])
async def test_a_lost_lease(app: Aarq, broker: FaultyBroker, log: Log, choice: Any) -> None:
    told = app.use(Told())
    running, go, stopped = anyio.Event(), anyio.Event(), anyio.Event()
    survived: list[str] = []

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        try:
            await go.wait()
            survived.append(ctx.job_id)
        finally:
            stopped.set()

    job = await long.enqueue()
    async with working(app, lease=0.3, on_lease_lost=choice):
        await running.wait()
        await lose(broker, job.id)
        await until(lambda: log.of("job.lease_lost"))
        go.set()
        await stopped.wait()
        await until(lambda: log.of("job.stale") or choice == "cancel")
    assert survived == ([job.id] if choice == "continue" else [])
    assert told.outcomes == []
    await job.refresh()
    assert (job.status, job.worker_id) == ("running", OTHER)


async def test_a_late_outcome_is_refused_and_reported(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    told = app.use(Told())
    running, go = anyio.Event(), anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await go.wait()

    job = await long.enqueue()
    async with working(app, lease=30):
        await running.wait()
        await lose(broker, job.id)
        go.set()
        await until(lambda: log.of("job.stale"))
    (line,) = log.of("job.stale")
    assert (line["job_id"], line["outcome"]) == (job.id, "Succeeded")
    assert told.outcomes == []


@on_asyncio
async def test_a_loop_blocked_for_good_loses_its_leases(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    renewals: list[int] = []

    @app.task
    async def blocker(ctx: Ctx) -> None:
        await until(lambda: broker.calls["renew"])
        for seconds in (2.0, 0.5):
            time.sleep(seconds)  # noqa: ASYNC251
            renewals.append(broker.calls["renew"])

    async with working(app, lease=0.3, stall_limit=1):
        await ended(await blocker.enqueue())
    early, late = renewals
    assert early == late, "no more after the limit"


async def test_a_job_handed_back_to_its_own_worker_is_adopted(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    runs = 0
    running, go = anyio.Event(), anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        running.set()
        await go.wait()

    job = await long.enqueue()
    async with working(app):
        await running.wait()
        broker.take_away(job.id)
        broker._wake()
        await until(lambda: log.of("job.adopted"))
        go.set()
        await ended(job)
    assert (job.status, job.crashes, runs) == ("completed", 0, 1)
    assert log.of("job.stale") == []


async def test_a_job_is_adopted_while_its_settlement_is_open(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    told = app.use(Told())
    runs = 0

    @app.task
    async def short(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1

    gate = broker.gates["settle"] = anyio.Event()
    job = await short.enqueue()
    async with working(app):
        await until(lambda: broker.calls["settle"])
        broker.take_away(job.id)
        broker._wake()
        await until(lambda: log.of("job.adopted"))
        del broker.gates["settle"]
        gate.set()
        await ended(job)
    assert (job.status, job.crashes, runs) == ("completed", 0, 1)
    assert told.outcomes == ["Succeeded"]
    assert log.of("job.stale") == []


async def test_a_job_regained_while_it_is_being_stopped_is_given_back(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    runs = 0
    running, unwinding, go = anyio.Event(), anyio.Event(), anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            return
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            unwinding.set()
            with anyio.CancelScope(shield=True):
                await go.wait()

    job = await long.enqueue()
    async with working(app, lease=0.3):
        await running.wait()
        row = broker._store._rows[job.id]
        broker.faults["claim"] = BrokerUnavailable("for a while")
        broker.take_away(job.id)
        await unwinding.wait()
        assert row.place == "ready"
        del broker.faults["claim"]
        broker._wake()
        await until(lambda: log.of("job.adopted"))
        go.set()
        await ended(job)
    assert (job.status, job.crashes, runs) == ("completed", 0, 2)


async def test_an_id_given_again_while_the_old_job_runs_is_a_job_of_its_own(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    seen: list[str] = []
    running = anyio.Event()

    @app.task
    async def report(ctx: Ctx, what: str) -> None:
        seen.append(what)
        if what == "old":
            running.set()
            await anyio.sleep_forever()

    task = report.options(job_id=str(uuid4()))
    old = await task.enqueue("old")
    async with working(app, lease=0.3):
        await running.wait()
        row = broker._store._rows[old.id]
        await until(lambda: broker._store._now() > row.enqueued_ms)
        broker.take_away(old.id)
        assert broker._store.delete([old.id]) == [True]
        new = await ended(await task.enqueue("new"))
        await until(lambda: log.of("job.lease_lost"))
    assert (new.status, new.crashes) == ("completed", 0)
    assert seen == ["old", "new"]
    assert log.of("job.adopted") == []


async def test_a_retry_that_comes_back_before_its_answer_is_run(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    """The store has taken the retry and hands it out again before the answer has come home."""
    told = app.use(Told())
    runs = 0

    @app.task(retries=1, retry_delay=0)
    async def flaky(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError

    real, answered = broker.settle, anyio.Event()

    async def slow(settlements: Any) -> Any:
        answers = await real(settlements)
        if broker.calls["settle"] == 1:
            await answered.wait()
        return answers

    broker.settle = slow  # type: ignore[method-assign]
    job = await flaky.enqueue()
    async with working(app):
        await until(lambda: log.of("job.adopted"))
        answered.set()
        await ended(job)
    assert (job.status, job.retries, job.crashes, runs) == ("completed", 1, 0, 2)
    assert told.outcomes == ["Retried", "Succeeded"]


async def test_what_was_handed_out_too_early_is_back_before_a_burst_ends(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    """As before; and the store takes its time with that delivery's way back."""
    runs = 0

    @app.task(retries=1, retry_delay=0)
    async def flaky(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError

    real, answered, sending, sent = broker.settle, anyio.Event(), anyio.Event(), anyio.Event()

    async def slow(settlements: Any) -> Any:
        if broker.calls["settle"] == 1:
            sending.set()
            await sent.wait()
        answers = await real(settlements)
        if broker.calls["settle"] == 1:
            await answered.wait()
        return answers

    broker.settle = slow  # type: ignore[method-assign]
    job = await flaky.enqueue()
    left = anyio.Event()

    async def burst() -> None:
        await drain(app)
        left.set()

    async with anyio.create_task_group() as group:
        group.start_soon(burst)
        await until(lambda: log.of("job.adopted"))
        answered.set()
        await sending.wait()
        await anyio.wait_all_tasks_blocked()
        assert not left.is_set()
        sent.set()
    await job.refresh()
    assert (job.status, job.retries, job.crashes, runs) == ("completed", 1, 0, 2)


class Slow(Middleware):
    """Hears of nothing before it is let."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.asked = 0

    async def settled(self, job: RunningJob, outcome: object) -> None:
        self.asked += 1
        await self.go.wait()


async def test_a_retry_is_run_while_the_observers_of_the_attempt_before_still_hear(
    app: Aarq, log: Log
) -> None:
    slow = app.use(Slow())
    runs = 0

    @app.task(retries=1, retry_delay=0)
    async def flaky(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError

    job = await flaky.enqueue()
    async with working(app, concurrency=1):
        await ended(job)
        slow.go.set()
    assert (job.status, job.retries, job.crashes, runs) == ("completed", 1, 0, 2)
    assert (slow.asked, log.of("job.adopted")) == (2, [])


async def test_observers_that_hang_hold_back_new_jobs(app: Aarq) -> None:
    slow = app.use(Slow())

    @app.task
    async def quick(ctx: Ctx) -> None: ...

    jobs = await app.enqueue_many([quick.job() for _ in range(100)])
    async with working(app, concurrency=2, shutdown_timeout=3600) as worker:
        await until(lambda: slow.asked >= 4)
        assert worker._running is not None
        attempts = worker._running.attempts
        await until(lambda: len(attempts) == slow.asked and not attempts.running)
        assert (attempts.free, slow.asked < 20) == (0, True)
        slow.go.set()
        for job in jobs:
            await ended(job)
    assert slow.asked == 100


@pytest.mark.parametrize("observed", [False, True])
async def test_jobs_that_retry_at_once_never_wait_for_a_lease(
    app: Aarq, log: Log, observed: bool
) -> None:
    if observed:
        app.use(Told())

    @app.task(retries=3, retry_delay=0)
    async def flaky(ctx: Ctx, i: int) -> None:
        if ctx.retries < i % 4:
            raise ValueError

    jobs = await app.enqueue_many([flaky.job(i) for i in range(400)])
    async with working(app, concurrency=50):
        for job in jobs:
            await ended(job)
    assert [job.retries for job in jobs] == [i % 4 for i in range(400)]
    assert {job.crashes for job in jobs} == {0}


async def test_a_running_job_is_cancelled_at_once_also_with_all_slots_full(
    app: Aarq, broker: FaultyBroker
) -> None:
    told = app.use(Told())
    running = anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    job, waiting = await long.enqueue(), await long.enqueue()
    async with working(app, concurrency=1, lease=3600):  # no renewal tells of it
        await running.wait()
        await waiting.cancel()
        assert await job.cancel()
        await ended(job)
    assert (job.status, told.outcomes) == ("cancelled", ["Cancelled"])


async def test_a_cancel_reaches_a_job_that_has_not_begun(app: Aarq, broker: FaultyBroker) -> None:
    """The hint may come in the very turn of the loop in which the job is claimed."""

    @app.task
    async def never(ctx: Ctx) -> None:
        pytest.fail("ran")

    async with working(app, concurrency=1) as worker:
        await until(lambda: broker.calls["claim"])
        assert worker._running is not None
        begin = worker._running._start
        fetcher = worker._running._fetcher

        def start(attempt: Any) -> None:
            from aioq.worker._attempts import Cause

            begin(attempt)
            attempt.stop(Cause.CANCEL)

        fetcher._start = start  # type: ignore[method-assign]
        job = await never.enqueue()
        await ended(job)
        assert job.status == "cancelled"
        fetcher._start = begin  # type: ignore[method-assign]

        @app.task
        async def good(ctx: Ctx) -> None: ...

        assert (await ended(await good.enqueue())).status == "completed"


async def test_without_hints_a_cancel_comes_with_the_renewal(
    app: Aarq, broker: FaultyBroker
) -> None:
    broker.faults["hints"] = BrokerUnavailable("no push today")
    running = anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    job = await long.enqueue()
    async with working(app, lease=0.3):
        await running.wait()
        await job.cancel()
        await ended(job)
    assert job.status == "cancelled"


async def test_a_success_that_beats_the_cancel_stays(app: Aarq) -> None:
    running = anyio.Event()

    @app.task
    async def stubborn(ctx: Ctx) -> None:
        running.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return

    job = await stubborn.enqueue()
    async with working(app):
        await running.wait()
        await job.cancel()
        await ended(job)
    assert job.status == "completed"


async def test_quarantined_jobs_run_one_at_a_time(app: Aarq, broker: FaultyBroker) -> None:
    now = most = 0

    @app.task
    async def suspect(ctx: Ctx) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(0.01)
        now -= 1

    @app.task
    async def innocent(ctx: Ctx) -> None: ...

    suspects = [await suspect.enqueue() for _ in range(5)]
    for crash in "12":
        await broker.claim_as(OTHER[:-1] + crash, 10)
        for job in suspects:
            broker.take_away(job.id)
    innocents = [await innocent.enqueue() for _ in range(20)]
    (stats,) = await broker.queue_stats()
    assert stats.quarantined == 5
    async with working(app, concurrency=10):
        for job in [*suspects, *innocents]:
            assert (await ended(job)).status == "completed"
    assert most == 1
    assert {True, False} == set(broker.quarantined_asked)


@on_asyncio
async def test_the_lease_thread_survives_a_store_that_fails_it(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    runs = 0
    running, go = anyio.Event(), anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        nonlocal runs
        runs += 1
        running.set()
        await go.wait()

    broker.faults["for_lease_thread"] = RuntimeError("a bug")
    job = await long.enqueue()
    async with working(app, lease=0.3):
        await running.wait()
        await until(lambda: broker.calls["for_lease_thread"] >= 1)
        del broker.faults["for_lease_thread"]
        await until(lambda: broker.calls["renew"] >= 1)
        for error in (BrokerUnavailable("gone"), RuntimeError("a bug")):
            broker.faults["renew"] = error
            before = broker.calls["renew"]
            await until(lambda: broker.calls["renew"] >= before + 2)  # noqa: B023
        broker.faults.clear()
        before = broker.calls["renew"]
        await until(lambda: broker.calls["renew"] >= before + 2)
        go.set()
        await ended(job)
    assert (job.status, runs) == ("completed", 1)
    assert any(line["loop"] == "leases" for line in log.of("worker.error"))
    assert len([x for x in log.of("broker.unavailable") if x["loop"] == "leases"]) <= 1
