"""The onion: its order, what passes through it, and what the built-in layers do."""

import contextlib
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from aioq import Aarq, Abort, Context, Job, Middleware, Retry, Snooze
from aioq._log import get_logger
from aioq._options import TaskOptions
from aioq._pipeline import compose, in_order, overrides
from aioq._records import Delivery
from aioq._wire import Note, Policy
from aioq.errors import ConfigurationError, TaskTimeout
from aioq.middleware import (
    FunctionMiddleware,
    LoggingMiddleware,
    Next,
    Order,
    ResultMiddleware,
    RetryMiddleware,
    Returned,
    RunningJob,
    Send,
    TimeoutMiddleware,
)


def running(
    *,
    retries: int = 0,
    policy: Policy | None = None,
    carry: dict[str, str] | None = None,
    **more: Any,
) -> RunningJob:
    delivery = Delivery(
        id="j",
        queue="q",
        task="t",
        token=b"",
        policy=b"",
        body=b"",
        note=None,
        number=1,
        retries=retries,
        crashes=0,
        priority=0,
        quarantined=False,
        enqueued_ms=1_000,
        due_ms=2_000,
        claimed_ms=2_500,
    )
    return RunningJob(
        delivery,
        policy=policy or Policy(),
        options=TaskOptions(**more),
        note=Note(carry=carry or {}),
        headers={},
        args=[],
        kwargs={},
        ctx=Context(),
        worker_id="w",
    )


def returning(value: object) -> Next:
    async def call(job: RunningJob) -> Returned:
        return Returned(value)

    return call


def raising(error: BaseException) -> Next:
    async def call(job: RunningJob) -> Returned:
        raise error

    return call


class Trail(Middleware):
    def __init__(self, name: str, order: int, trail: list[str]) -> None:
        self.name, self.order, self.trail = name, order, trail

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        self.trail.append(f"+{self.name}")
        try:
            return await call_next(job)
        finally:
            self.trail.append(f"-{self.name}")

    async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
        self.trail.append(f"+{self.name}")
        await call_next(jobs)
        self.trail.append(f"-{self.name}")


# -- composition ------------------------------------------------------------------------------


async def test_layers_lie_by_order_and_then_as_they_were_added() -> None:
    trail: list[str] = []
    layers = in_order(
        [
            Trail("c", Order.CUSTOM, trail),
            Trail("a", Order.TRACE, trail),
            Trail("d", Order.CUSTOM, trail),
            Trail("b", Order.LOG, trail),
        ]
    )
    assert await compose(layers, "around_call", returning(5))(running()) == 5
    assert trail == ["+a", "+b", "+c", "+d", "-d", "-c", "-b", "-a"]


def test_layers_that_override_nothing_cost_nothing() -> None:
    innermost = returning(5)
    assert compose([Middleware(), ResultMiddleware()], "around_enqueue", innermost) is innermost
    assert not overrides(Middleware(), "settled")
    assert overrides(ResultMiddleware(), "around_call")


async def test_the_base_class_passes_everything_on() -> None:
    base = Middleware()
    assert await base.around_call(running(), returning(5)) == 5
    sent: list[Any] = []

    async def send(jobs: Any) -> None:
        sent.extend(jobs)

    await base.around_enqueue(["job"], send)  # type: ignore[list-item]
    assert sent == ["job"]
    assert base.lifespan(Aarq("memory://")) is None
    await base.settled(running(), None)  # type: ignore[arg-type]


async def test_a_function_is_a_layer(app: Aarq) -> None:
    @app.middleware
    async def twice(job: RunningJob, call_next: Next) -> Returned:
        await call_next(job)
        return await call_next(job)

    calls: list[int] = []

    async def innermost(job: RunningJob) -> Returned:
        calls.append(1)
        return Returned(len(calls))

    (layer,) = [one for one in app.freeze().layers if isinstance(one, FunctionMiddleware)]
    assert await layer.around_call(running(), innermost) == 2
    assert repr(layer).startswith("<middleware test_a_function_is_a_layer.<locals>.twice")


async def test_the_chain_of_an_app_is_built_in_layers_around_the_users_own(app: Aarq) -> None:
    own, outer = Middleware(), Middleware()
    outer.order = Order.TRACE
    assert app.use(own) is own
    app.use(outer)
    assert [type(layer) for layer in app.freeze().layers] == [
        Middleware,
        LoggingMiddleware,
        ResultMiddleware,
        RetryMiddleware,
        Middleware,
        TimeoutMiddleware,
    ]
    assert app.freeze() is app.freeze()


async def test_the_chain_is_frozen_by_the_first_enqueue(app: Aarq) -> None:
    @app.task
    async def task(ctx: Context) -> None: ...

    trail: list[str] = []
    app.use(Trail("a", Order.CUSTOM, trail))
    app.use(Trail("b", Order.CUSTOM, trail))
    await task.enqueue()
    assert trail == ["+a", "+b", "-b", "-a"]
    with pytest.raises(ConfigurationError) as refused:
        app.use(Middleware())
    assert str(refused.value) == (
        "middleware must be added before the first enqueue and before the worker starts"
    )


async def test_one_layer_sees_all_jobs_of_a_call_at_once(app: Aarq) -> None:
    @app.task
    async def task(ctx: Context) -> None: ...

    sizes: list[int] = []

    class Count(Middleware):
        async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
            sizes.append(len(jobs))
            await call_next(jobs)

    app.use(Count())
    await app.enqueue_many([task.job(), task.job()])
    await task.enqueue()
    assert sizes == [2, 1]


# -- retry --------------------------------------------------------------------------------------

THREE = Policy(max_retries=3, retry_delay=2.0)


async def retried(job: RunningJob, error: BaseException) -> Retry:
    with pytest.raises(Retry) as raised:
        await RetryMiddleware().around_call(job, raising(error))
    return raised.value


async def test_an_error_becomes_a_retry_while_retries_are_left() -> None:
    error = ValueError("boom")
    retry = await retried(running(policy=THREE, retries=2), error)
    assert retry.delay == 2.0
    assert str(retry) == "ValueError: boom"
    assert retry.__cause__ is error
    with pytest.raises(ValueError, match="boom"):
        await RetryMiddleware().around_call(running(policy=THREE, retries=3), raising(error))


async def test_only_the_chosen_errors_are_retried() -> None:
    job = running(policy=THREE, retry_on=(OSError, LookupError))
    await retried(job, KeyError("x"))
    with pytest.raises(ValueError, match="boom"):
        await RetryMiddleware().around_call(job, raising(ValueError("boom")))


async def test_a_retry_that_was_asked_for_keeps_its_delay_or_takes_the_tasks() -> None:
    assert (await retried(running(policy=THREE), Retry(0.25))).delay == 0.25
    assert (await retried(running(policy=THREE), Retry(0))).delay == 0
    assert (await retried(running(policy=THREE), Retry())).delay == 2.0


async def test_a_retry_that_was_asked_for_is_an_abort_when_none_is_left() -> None:
    with pytest.raises(Abort) as aborted:
        await RetryMiddleware().around_call(running(), raising(Retry(reason="too early")))
    assert str(aborted.value) == "too early, but none of its 0 retries is left"
    with pytest.raises(Abort, match=r"^the task asked for a retry, but none of its 3"):
        await RetryMiddleware().around_call(running(policy=THREE, retries=3), raising(Retry()))


@pytest.mark.parametrize("verdict", [Snooze(5), Abort("no"), KeyboardInterrupt()])
async def test_snooze_abort_and_what_stops_the_program_pass(verdict: BaseException) -> None:
    with pytest.raises(type(verdict)) as passed:
        await RetryMiddleware().around_call(running(policy=THREE), raising(verdict))
    assert passed.value is verdict


@pytest.mark.parametrize("verdict", [Snooze(5), Abort("no"), Retry(0.25)])
async def test_what_a_task_group_in_a_middleware_wrapped_counts_all_the_same(
    verdict: Exception,
) -> None:
    wrapped = ExceptionGroup("a group", [ExceptionGroup("in a group", [verdict])])
    with pytest.raises(type(verdict)) as raised:
        await RetryMiddleware().around_call(running(policy=THREE), raising(wrapped))
    assert raised.value is verdict
    several = ExceptionGroup("several", [verdict, ValueError("boom")])
    assert (await retried(running(policy=THREE), several)).__cause__ is several


@pytest.mark.parametrize(
    ("retries", "options", "delay"),
    [
        (0, {}, 2.0),
        (2, {}, 2.0),
        (2, {"backoff": 3.0}, 18.0),
        (5, {"backoff": 10.0}, 3600.0),
        (5, {"backoff": 10.0, "max_retry_delay": 60.0}, 60.0),
        (0, {"max_retry_delay": 1.0}, 2.0),
        (10_000, {"backoff": 2.0}, 3600.0),
    ],
)
async def test_the_delay_grows_by_backoff_up_to_its_bound(
    retries: int, options: dict[str, float], delay: float
) -> None:
    policy = Policy(max_retries=20_000, retry_delay=2.0)
    job = running(policy=policy, retries=retries, **options)
    assert (await retried(job, ValueError())).delay == delay


async def test_jitter_adds_up_to_its_share() -> None:
    job = running(policy=THREE, jitter=0.5)
    delays = {(await retried(job, ValueError())).delay for _ in range(50)}
    assert len(delays) > 1
    assert all(delay is not None and 2.0 <= delay <= 3.0 for delay in delays)


# -- timeout, results, logging --------------------------------------------------------------------


async def test_a_timeout_cancels_the_attempt_and_is_an_error_of_its_own() -> None:
    stopped: list[bool] = []

    async def hang(job: RunningJob) -> Returned:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(True)
        return Returned(None)

    with pytest.raises(TaskTimeout, match=r"(?m)^ran longer than its timeout of 0.001 s$") as late:
        await TimeoutMiddleware().around_call(running(policy=Policy(timeout=0.001)), hang)
    assert stopped == [True]
    assert isinstance(late.value, TimeoutError)


async def test_a_tasks_own_timeout_error_passes() -> None:
    with pytest.raises(TimeoutError, match=r"(?m)^own$"):
        await TimeoutMiddleware().around_call(
            running(policy=Policy(timeout=60)), raising(TimeoutError("own"))
        )


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_what_ends_in_time_is_returned(timeout: float | None) -> None:
    job = running(policy=Policy(timeout=timeout))
    assert await TimeoutMiddleware().around_call(job, returning(5)) == 5


async def test_a_result_is_kept_when_the_job_saves_it() -> None:
    job = running(policy=Policy(save_result=True))
    assert not job.has_result
    assert await ResultMiddleware().around_call(job, returning(5)) == 5
    assert (job.has_result, job.kept) == (True, 5)
    other = running()
    assert await ResultMiddleware().around_call(other, returning(5)) == 5
    assert not other.has_result


@pytest.mark.parametrize(
    ("ending", "level", "event"),
    [
        (Returned("secret"), "debug", "job.completed"),
        (Retry(5, "later"), "warning", "job.retry"),
        (Snooze(5), "debug", "job.snoozed"),
        (Abort("enough"), "error", "job.failed"),
        (ValueError("boom"), "error", "job.failed"),
    ],
    ids=lambda item: type(item).__name__,
)
async def test_each_ending_has_its_level(ending: Any, level: str, event: str) -> None:
    structlog.configure(cache_logger_on_first_use=False)
    call = raising(ending) if isinstance(ending, Exception) else returning(ending)
    try:
        with capture_logs() as lines, contextlib.suppress(Retry, Snooze, Abort, ValueError):
            await LoggingMiddleware().around_call(running(policy=THREE), call)
    finally:
        structlog.reset_defaults()
    (line,) = lines
    assert (line["log_level"], line["event"]) == (level, event)
    assert "secret" not in str(line)
    if level != "debug":
        named = {"job_id": "j", "task": "t", "queue": "q", "attempt": 1}
        assert line | named == line


def test_as_a_library_it_is_quiet_below_info(capsys: pytest.CaptureFixture[str]) -> None:
    log = get_logger()
    log.debug("silence")
    log.info("heard")
    out, err = capsys.readouterr()
    assert out == ""
    assert "heard" in err
    assert "silence" not in err


def test_a_running_job_tells_its_times_and_what_was_carried() -> None:
    job = running(retries=2, carry={"page": "3"})
    assert (job.attempt, job.retries) == (3, 2)
    assert (job.due_after, job.wait_time) == (1.0, 0.5)
    assert (job.enqueued_at.timestamp(), job.due_at.timestamp()) == (1.0, 2.0)
    assert job.carried == {"page": "3"}
    assert job.carry == job.state == {}
    assert repr(job) == "<RunningJob j task='t' attempt=3>"
