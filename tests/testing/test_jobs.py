"""``offline`` and ``Jobs``: what a user's test sees of an app's jobs."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import anyio
import anyio.to_thread
import pytest

from aioq import Aarq, Abort, Context, Middleware, Snooze
from aioq._clock import wall_ms
from aioq.errors import ConfigurationError, InvalidArguments, JobCancelled, JobFailed
from aioq.testing import Jobs, offline

# -- running --------------------------------------------------------------------------------------


async def test_nothing_runs_by_itself_and_run_runs_what_is_due(app: Aarq, jobs: Jobs):
    @app.task(name="double", save_result=True)
    async def double(ctx: Context, n: int) -> int:
        return 2 * n

    job = await double.enqueue(4)
    assert [one.status for one in jobs.enqueued()] == ["pending"]
    (done,) = await jobs.run()
    assert (done.id, done.status, done.result, done.args) == (job.id, "completed", 8, (4,))
    assert await job.wait() == 8
    assert await jobs.run() == []


async def test_a_retry_waits_for_the_clock(flaky, jobs: Jobs):
    task = flaky(1, retries=1, retry_delay=3600)
    await task.enqueue("shop")
    (job,) = await jobs.run()
    assert (job.status, job.error) == ("retrying", "ConnectionError: shop is down")
    jobs.advance(1800)
    assert await jobs.run() == []
    jobs.advance(timedelta(minutes=30))
    (job,) = await jobs.run()
    assert (job.status, job.result) == ("completed", 2)


async def test_drain_goes_on_to_the_last_retry(flaky, jobs: Jobs):
    start = jobs.now
    job = await flaky(3, retries=3, retry_delay=3600).options(delay=86_400).enqueue("shop")
    (done,) = await jobs.drain()
    assert (done.id, done.status, done.result) == (job.id, "completed", 4)
    assert timedelta(hours=27) <= jobs.now - start < timedelta(hours=27, minutes=1)
    assert [one.status for one in jobs.enqueued()] == ["completed"]


async def test_drain_does_not_jump_while_a_job_runs(app: Aarq, jobs: Jobs):
    order: list[str] = []

    @app.task(name="soon")
    async def soon(ctx: Context) -> None:
        order.append("soon begins")
        await anyio.sleep(0.05)
        order.append("soon ends")

    @app.task(name="late")
    async def late(ctx: Context) -> None:
        order.append("late")

    await soon.enqueue()
    await late.options(delay=60).enqueue()
    await jobs.drain()
    assert order == ["soon begins", "soon ends", "late"]


async def test_jobs_that_jobs_enqueue_run_as_well_from_any_queue(app: Aarq, jobs: Jobs):
    @app.task(name="child")
    async def child(ctx: Context, n: int) -> None: ...

    @app.task(name="parent")
    async def parent(ctx: Context) -> None:
        await child.enqueue(1)
        with pytest.warns(RuntimeWarning, match="declares the queue 'elsewhere'"):
            await child.options(queue="elsewhere").enqueue(2)

    await parent.enqueue()
    assert {job.status for job in await jobs.run()} == {"completed"}
    assert [job.args for job in jobs.enqueued(child)] == [(1,), (2,)]


async def test_a_failed_job_raises_with_what_the_task_raised(app: Aarq, jobs: Jobs):
    error = Abort("no such order")

    @app.task(name="refuse", retries=3)
    async def refuse(ctx: Context, n: int) -> None:
        raise error

    await refuse.enqueue(1)
    await refuse.enqueue(2)
    first, second = jobs.enqueued()
    with pytest.raises(JobFailed) as failed:
        await jobs.run()
    assert str(failed.value) == f"{first} ended failed: no such order"
    assert failed.value.__notes__ == [f"{second} ended failed: no such order"]
    assert failed.value.__cause__ is error

    await refuse.enqueue(3)
    (job,) = await jobs.run(check=False)
    assert job.status == "failed"


async def test_a_job_of_an_unknown_task_ends_dead(app: Aarq, jobs: Jobs):
    other = Aarq(app.broker, plugins=False)

    @other.task(name="gone")
    async def gone(ctx: Context, n: int) -> None: ...

    await gone.enqueue(1)
    (job,) = await jobs.drain(check=False)
    assert (job.status, job.task_name, job.args) == ("dead", "gone", (1,))
    assert await jobs.drain() == []


@pytest.mark.parametrize("how", ["enqueues itself", "snoozes"])
async def test_jobs_without_an_end_are_named(app: Aarq, jobs: Jobs, how: str, monkeypatch):
    monkeypatch.setattr("aioq.testing._jobs.MOST_ATTEMPTS", 50)

    @app.task(name="again")
    async def again(ctx: Context) -> None:
        if how == "snoozes":
            raise Snooze(60)
        await again.enqueue()

    await again.enqueue()
    with pytest.raises(AssertionError) as failed:
        await jobs.drain()
    assert str(failed.value) == (
        "the jobs do not come to an end: after 50 attempts (again 50 times) some are still due. "
        "Does a task enqueue itself, or retry for ever?"
    )


def test_without_an_event_loop(app: Aarq, jobs: Jobs):
    @app.task(name="plain", save_result=True, retries=1, retry_delay=60)
    def plain(ctx: Context, n: int) -> int:
        if ctx.attempt == 1:
            raise ValueError(n)
        return n

    plain.enqueue_sync(7)
    (job,) = jobs.run_sync()
    assert job.status == "retrying"
    (job,) = jobs.drain_sync()
    assert job.result == 7


async def test_the_sync_forms_refuse_to_block_a_loop(jobs: Jobs):
    with pytest.raises(ConfigurationError) as refused:
        jobs.drain_sync()
    assert str(refused.value) == (
        "drain_sync() would block the event loop that runs in this thread: use 'await jobs.drain()'"
    )


async def test_dates_go_by_the_clock_of_the_host(app: Aarq, jobs: Jobs):
    @app.task(name="at")
    async def at(ctx: Context) -> None: ...

    await at.options(run_at=datetime.now(UTC)).enqueue()
    assert len(await jobs.run()) == 1
    with pytest.raises(ValueError, match="by must be a number, not negative, of seconds, got -1"):
        jobs.advance(-1)


async def test_lifespan_state_and_middleware_are_those_of_the_app(app: Aarq, jobs: Jobs):
    seen: list[str] = []

    class Layer(Middleware):
        async def around_enqueue(self, jobs, call_next):
            jobs[0].headers["tenant"] = "acme"
            await call_next(jobs)

    @asynccontextmanager
    async def lifespan(app: Aarq):
        yield "a pool"

    app.lifespan = lifespan
    app.use(Layer())

    @app.task(name="look")
    async def look(ctx: Context) -> None:
        seen.extend([ctx.state, ctx.headers["tenant"]])

    await look.enqueue()
    await jobs.run()
    assert seen == ["a pool", "acme"]


# -- the app as it was ----------------------------------------------------------------------------


async def test_the_app_is_afterwards_as_it_was_before():
    app = Aarq("memory://", plugins=False)

    @app.task(name="t")
    async def task(ctx: Context) -> None: ...

    real = app.broker
    outside = await task.enqueue()
    with offline(app) as jobs:
        assert app.broker is not real
        inside = await task.enqueue()
        with offline(app) as inner:
            await task.enqueue()
            assert len(inner.enqueued()) == 1
        assert [job.id for job in jobs.enqueued()] == [inside.id]
    assert app.broker is real
    assert await task.get_job(inside.id) is None
    assert await task.get_job(outside.id) is not None


async def test_an_app_used_offline_alone_still_takes_middleware():
    app, seen = Aarq("memory://", plugins=False), list[str]()

    @app.task(name="t")
    async def task(ctx: Context) -> None: ...

    def layer(name: str) -> None:
        async def around(job, call_next):
            seen.append(name)
            return await call_next(job)

        app.use(around)

    with offline(app) as jobs:
        layer("in the block")
        await task.enqueue()
        with pytest.raises(ConfigurationError, match="before the first enqueue"):
            layer("late")
        await jobs.run()
    layer("after it")
    with offline(app) as jobs:
        await task.enqueue()
        await jobs.run()
    await task.enqueue()
    with offline(app), pytest.raises(ConfigurationError, match="before the first enqueue"):
        layer("late")
    assert seen == ["in the block", "in the block", "after it"]


async def test_plugins_hear_of_an_app_once(monkeypatch):
    app = Aarq("memory://")

    @app.task(name="t")
    async def task(ctx: Context) -> None: ...

    heard: list[Aarq] = []
    monkeypatch.setattr(app._registry, "configure", heard.append)
    with offline(app):
        await task.enqueue()
    await task.enqueue()
    assert heard == [app]


def test_an_app_without_a_broker_needs_none(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIOQ_BROKER_URL", raising=False)
    app = Aarq(plugins=False)

    @app.task(name="t")
    async def task(ctx: Context) -> None: ...

    with offline(app) as jobs:
        task.enqueue_sync()
        assert len(jobs.run_sync()) == 1
    assert list(tmp_path.iterdir()) == []


# -- what was enqueued ----------------------------------------------------------------------------


@pytest.fixture
def mail(app: Aarq):
    @app.task(name="mail", queue="mails")
    async def mail(ctx: Context, to: str, subject: str = "hello") -> None: ...

    return mail


async def test_a_job_is_found_by_what_is_asked(mail, jobs: Jobs):
    await mail.options(delay=60, priority=2).enqueue("ada", "bye")
    job = jobs.assert_enqueued(mail)
    assert (job.args, job.queue, job.status) == (("ada", "bye"), "mails", "scheduled")
    for wanted in (
        {"args": ["ada", "bye"]},
        {"args": ["ada"], "kwargs": {"subject": "bye"}},
        {"kwargs": {"subject": "bye", "to": "ada"}},
        {"args": [ANY, "bye"]},
        {"queue": "mails", "delay": 60, "priority": 2, "count": 1},
        {"delay": timedelta(minutes=1)},
    ):
        assert jobs.assert_enqueued(mail, **wanted).id == job.id


async def test_defaults_belong_to_the_call(mail, jobs: Jobs):
    await mail.enqueue("ada")
    jobs.assert_enqueued(mail, args=["ada", "hello"])
    jobs.assert_enqueued(mail, args=["ada"])
    with pytest.raises(AssertionError):
        jobs.assert_enqueued(mail, args=["ada", "bye"])


@pytest.mark.parametrize("delay", [2.007, 1.0001, timedelta(microseconds=1)])
async def test_a_delay_is_found_again_whatever_its_fraction(mail, jobs: Jobs, delay):
    await mail.options(delay=delay).enqueue("ada")
    jobs.assert_enqueued(mail, delay=delay)
    jobs.advance(delay)
    await jobs.run()
    assert [job.status for job in jobs.enqueued()] == ["completed"]


async def test_a_date_counts_as_the_delay_it_came_to(mail, jobs: Jobs, monkeypatch):
    now = wall_ms()
    monkeypatch.setattr("aioq.testing._offline.wall_ms", lambda: now)
    await mail.options(run_at=jobs.now + timedelta(hours=1)).enqueue("ada")
    jobs.assert_enqueued(mail, delay=3600)
    with pytest.raises(AssertionError):
        jobs.assert_enqueued(mail, delay=3500)


async def test_a_miss_lists_what_was_enqueued(mail, jobs: Jobs):
    with pytest.raises(AssertionError) as nothing:
        jobs.assert_enqueued(mail)
    assert str(nothing.value) == "no job of task 'mail' was enqueued; nothing was"

    await mail.options(delay=60, priority=2).enqueue("ada", subject="bye")
    await mail.enqueue("bob")
    await jobs.run()
    with pytest.raises(AssertionError) as missed:
        jobs.assert_enqueued(mail, args=["eve"], queue="spam", delay=90, priority=1)
    assert str(missed.value) == (
        "no job of task 'mail' called as ('eve') in queue 'spam' with delay 90 s with priority 1 "
        "was enqueued; enqueued were:\n"
        "  mail('ada', subject='bye') in queue 'mails', delay 60 s, priority 2, scheduled\n"
        "  mail('bob') in queue 'mails', completed"
    )
    with pytest.raises(AssertionError, match=r"^2 jobs of task 'mail' were enqueued instead of 3;"):
        jobs.assert_enqueued(mail, count=3)
    with pytest.raises(ValueError, match=r"count must be at least 1; for none write 'assert not j"):
        jobs.assert_enqueued(mail, count=0)


async def test_none_may_be_what_is_wanted(mail, jobs: Jobs):
    assert jobs.enqueued(mail) == []
    await mail.enqueue("ada")
    with pytest.raises(InvalidArguments, match="missing a required argument: 'to'"):
        jobs.assert_enqueued(mail, args=[])


async def test_jobs_can_be_cancelled(mail, jobs: Jobs):
    job = await mail.options(save_result=True).enqueue("ada")
    assert await job.cancel()
    assert await jobs.run() == []
    with pytest.raises(JobCancelled):
        await job.wait()


async def test_code_under_test_may_enqueue_from_threads(mail, jobs: Jobs):
    await anyio.to_thread.run_sync(mail.enqueue_sync, "ada")
    assert len(await jobs.run()) == 1
