"""Every option has the default the specification gives, and a wrong value is told in a sentence."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioq import Aarq, TaskDef
from aioq._clock import from_ms, to_ms
from aioq._options import TaskOptions
from aioq.errors import InvalidOption
from aioq.testing import FakeClock


@pytest.fixture
def task(app: Aarq) -> TaskDef[..., Any]:
    @app.task
    async def task(ctx: Any) -> None: ...

    return task


def test_the_defaults_are_those_of_the_specification() -> None:
    assert TaskOptions() == TaskOptions(
        queue="default",
        retries=0,
        retry_delay=5.0,
        save_result=False,
        result_ttl=3600,
        timeout=None,
        priority=0,
        backoff=1.0,
        max_retry_delay=3600.0,
        jitter=0.0,
        retry_on=Exception,
    )


WHOLE = "must be a whole number from {} to {}, got {!r}"
WRONG: list[tuple[str, Any, str]] = [
    ("queue", 5, "queue must be a string, got 5 (int)"),
    ("queue", None, "queue must be a string, got None (NoneType)"),
    ("queue", "", "queue must have 1 to 128 characters without spaces and braces, got ''"),
    ("queue", "a b", "queue must have 1 to 128 characters without spaces and braces, got 'a b'"),
    ("queue", "{a}", "queue must have 1 to 128 characters without spaces and braces, got '{a}'"),
    ("queue", "a\n", "queue must have 1 to 128 characters without spaces and braces, got 'a\\n'"),
    (
        "queue",
        "\ud800",
        "queue must have 1 to 128 characters without spaces and braces, got '\\ud800'",
    ),
    ("retries", -1, "retries " + WHOLE.format(0, 2**31 - 1, -1)),
    ("retries", 1.0, "retries " + WHOLE.format(0, 2**31 - 1, 1.0)),
    ("retries", True, "retries " + WHOLE.format(0, 2**31 - 1, True)),
    ("retries", 2**31, "retries " + WHOLE.format(0, 2**31 - 1, 2**31)),
    ("retry_delay", -0.1, "retry_delay must be a number, not negative, of seconds, got -0.1"),
    ("retry_delay", "5", "retry_delay must be a number, not negative, of seconds, got '5'"),
    (
        "retry_delay",
        float("nan"),
        "retry_delay must be a number, not negative, of seconds, got nan",
    ),
    (
        "retry_delay",
        float("inf"),
        "retry_delay must be a number, not negative, of seconds, got inf",
    ),
    ("save_result", 1, "save_result must be True or False, got 1"),
    ("save_result", "no", "save_result must be True or False, got 'no'"),
    ("result_ttl", 0, "result_ttl " + WHOLE.format(1, 2**31 - 1, 0)),
    ("result_ttl", 3600.0, "result_ttl " + WHOLE.format(1, 2**31 - 1, 3600.0)),
    ("result_ttl", None, "result_ttl " + WHOLE.format(1, 2**31 - 1, None)),
    ("timeout", 0, "timeout must be a positive number of seconds, got 0"),
    ("timeout", -1, "timeout must be a positive number of seconds, got -1"),
    ("timeout", True, "timeout must be a positive number of seconds, got True"),
    ("priority", 1.5, "priority " + WHOLE.format(-1_000_000, 1_000_000, 1.5)),
    ("priority", 10**7, "priority " + WHOLE.format(-1_000_000, 1_000_000, 10**7)),
]
ONLY_OF_TASKS: list[tuple[str, Any, str]] = [
    ("name", "", "name must be a string that is not empty, got ''"),
    ("name", 5, "name must be a string that is not empty, got 5"),
    ("backoff", 0.5, "backoff must be a number not below 1.0, got 0.5"),
    ("backoff", float("inf"), "backoff must be a number not below 1.0, got inf"),
    ("max_retry_delay", -1, "max_retry_delay must be a number, not negative, of seconds, got -1"),
    ("jitter", -0.1, "jitter must be a number not below 0.0, got -0.1"),
    ("jitter", "x", "jitter must be a number not below 0.0, got 'x'"),
    ("retry_on", 5, "retry_on must be an exception class or a tuple of them, got 5"),
    (
        "retry_on",
        (OSError, "x"),
        "retry_on must be an exception class or a tuple of them, got (<class 'OSError'>, 'x')",
    ),
    (
        "retry_on",
        KeyboardInterrupt,
        "retry_on must be an exception class or a tuple of them, got <class 'KeyboardInterrupt'>",
    ),
]
ONLY_OF_JOBS: list[tuple[str, Any, str]] = [
    ("delay", -1, "delay must be a number, not negative, of seconds, got -1"),
    ("delay", None, "delay must be a number, not negative, of seconds, got None"),
    (
        "delay",
        timedelta(-1),
        "delay must be a number, not negative, of seconds, got datetime.timedelta(days=-1)",
    ),
    ("run_at", "noon", "run_at must be a datetime, got 'noon'"),
    (
        "run_at",
        datetime(2024, 1, 1),  # noqa: DTZ001 - without a zone on purpose
        "run_at must carry a time zone, got datetime.datetime(2024, 1, 1, 0, 0); for UTC use "
        "datetime.now(UTC)",
    ),
    (
        "job_id",
        "order-7",
        "job_id must be a UUID, got 'order-7'; for a business key use uuid.uuid5(NAMESPACE, key)",
    ),
    (
        "job_id",
        7,
        "job_id must be a UUID, got 7; for a business key use uuid.uuid5(NAMESPACE, key)",
    ),
]


@pytest.mark.parametrize(("option", "value", "sentence"), WRONG + ONLY_OF_TASKS)
def test_a_wrong_value_of_a_task_is_refused(
    app: Aarq, option: str, value: Any, sentence: str
) -> None:
    with pytest.raises(InvalidOption) as refused:
        app.task(**{option: value})
    assert str(refused.value) == sentence
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(("option", "value", "sentence"), WRONG + ONLY_OF_JOBS)
def test_a_wrong_value_of_a_job_is_refused(
    task: TaskDef[..., Any], option: str, value: Any, sentence: str
) -> None:
    with pytest.raises(InvalidOption) as refused:
        task.options(**{option: value})
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("retires", "did you mean 'retries'?"),
        ("result_tll", "did you mean 'result_ttl'?"),
        ("nam", "did you mean 'name'?"),
        ("xyz", "known options: backoff, jitter, max_retry_delay, name, priority, queue, "),
    ],
)
def test_an_unknown_option_of_a_task_names_the_nearest(app: Aarq, option: str, hint: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        app.task(**{option: 1})
    assert str(refused.value).startswith(f"unknown option {option!r}; {hint}")


@pytest.mark.parametrize(
    ("option", "hint"),
    [("dealy", "did you mean 'delay'?"), ("backoff", "known options: connection, delay, job_id")],
)
def test_an_unknown_option_of_a_job_names_the_nearest(
    task: TaskDef[..., Any], option: str, hint: str
) -> None:
    with pytest.raises(InvalidOption) as refused:
        task.options(**{option: 1})
    assert str(refused.value).startswith(f"unknown option {option!r}; {hint}")


def test_delay_and_run_at_exclude_each_other(task: TaskDef[..., Any]) -> None:
    with pytest.raises(InvalidOption, match=r"(?m)^give either delay or run_at, not both$"):
        task.options(delay=1, run_at=datetime.now(UTC))
    later = task.options(delay=60).options(run_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert later.job().run_at == datetime(2030, 1, 1, tzinfo=UTC)


def test_options_leave_the_task_itself_alone_and_add_up(task: TaskDef[..., Any]) -> None:
    other = task.options(queue="slow", retries=2).options(priority=7).options(delay=1)
    assert (other.queue, other.job().max_retries, other.job().priority) == ("slow", 2, 7)
    assert (task.queue, task.job().max_retries, task.job().priority) == ("default", 0, 0)
    assert other.name == task.name


@pytest.mark.parametrize(("delay", "seconds"), [(2, 2), (0.5, 0.5), (timedelta(minutes=1), 60)])
async def test_a_delay_counts_from_the_stores_now(
    task: TaskDef[..., Any], clock: FakeClock, delay: Any, seconds: float
) -> None:
    job = await task.options(delay=delay).enqueue()
    assert job.status == "scheduled"
    assert job.enqueued_at == from_ms(clock())
    assert job.run_at == from_ms(clock()) + timedelta(seconds=seconds)


async def test_run_at_is_kept_to_the_millisecond_and_shown_in_utc(
    task: TaskDef[..., Any],
) -> None:
    noon = datetime(2030, 6, 1, 12, 0, 0, 123_000, timezone(timedelta(hours=2)))
    job = await task.options(run_at=noon).enqueue()
    assert job.run_at == noon
    assert job.run_at is not None
    assert job.run_at.tzinfo is UTC
    assert job.status == "scheduled"


async def test_a_run_at_in_the_past_is_due_now(task: TaskDef[..., Any]) -> None:
    job = await task.options(run_at=datetime(2001, 1, 1, tzinfo=UTC)).enqueue()
    assert job.status == "pending"


@given(st.integers(0, 253_402_300_799_999))
def test_an_instant_survives_its_way_through_a_datetime(instant: int) -> None:
    assert to_ms(from_ms(instant)) == instant


@pytest.mark.parametrize(
    "given_id", [UUID(int=5), str(UUID(int=5)), "00000000000000000000000000000005"]
)
def test_a_job_id_is_shown_in_its_canonical_form(task: TaskDef[..., Any], given_id: Any) -> None:
    assert task.options(job_id=given_id).job().id == "00000000-0000-0000-0000-000000000005"


async def test_the_options_travel_with_the_job(app: Aarq) -> None:
    @app.task(queue="q", retries=3, retry_delay=0.5, priority=-2, save_result=True, timeout=9)
    async def task(ctx: Any) -> None: ...

    job = await app.broker.get_job((await task.enqueue()).id)
    assert (job.queue, job.max_retries, job.retry_delay, job.priority) == ("q", 3, 0.5, -2)
    assert job._policy == task.task_options.policy()
    assert job._policy.timeout == 9.0


def test_integers_and_floats_are_both_seconds(app: Aarq) -> None:
    @app.task(retry_delay=3, timeout=0.5, max_retry_delay=60, backoff=2, jitter=1)
    async def task(ctx: Any) -> None: ...

    assert task.job().retry_delay == 3.0
