"""The options of a task and of a single job, checked where they are given."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, TypedDict, TypeGuard

from aioq._clock import MAX_SECONDS, duration_ms, to_ms
from aioq._describe import did_you_mean
from aioq._ids import check_job_id
from aioq._wire import Policy
from aioq.errors import InvalidOption

__all__ = [
    "JobOptions",
    "Schedule",
    "TaskOptions",
    "check_job_options",
    "check_name",
    "check_queue",
    "unknown_option",
]

_QUEUE = re.compile(r"[^\s{}\x00-\x1f\x7f\ud800-\udfff]{1,128}")


class JobOptions(TypedDict, total=False):
    """What ``task.options(...)`` takes; each overrides the task's own for the jobs made by it."""

    queue: str
    delay: float | timedelta
    run_at: datetime
    priority: int
    retries: int
    retry_delay: float
    timeout: float | None
    save_result: bool
    result_ttl: int
    job_id: str
    connection: object


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """Options of ``@app.task``; times in seconds.

    Args:
        queue: the queue its jobs are sent to.
        retries: how often a failed job is tried again.
        retry_delay: wait before the first retry.
        save_result: keep the return value in the broker.
        result_ttl: how long a saved result is kept (Redis; SQL stores keep it until deleted).
        timeout: longest run of one attempt; None for no limit.
        priority: each step passes ordinary jobs that are up to a minute older; may be negative.
        backoff: factor from one retry delay to the next.
        max_retry_delay: no retry delay is longer.
        jitter: random share added to each delay, 0.1 for up to 10 %.
        retry_on: only these exceptions are retried.
    """

    queue: str = "default"
    retries: int = 0
    retry_delay: float = 5.0
    save_result: bool = False
    result_ttl: int = 3600
    timeout: float | None = None
    priority: int = 0
    backoff: float = 1.0
    max_retry_delay: float = 3600.0
    jitter: float = 0.0
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        check_queue(self.queue)
        _whole("retries", self.retries, least=0)
        _seconds("retry_delay", self.retry_delay)
        _flag("save_result", self.save_result)
        _whole("result_ttl", self.result_ttl, least=1)
        if self.timeout is not None:
            _seconds("timeout", self.timeout, above_zero=True)
        _whole("priority", self.priority, least=-1_000_000, most=1_000_000)
        _number("backoff", self.backoff, least=1.0)
        _seconds("max_retry_delay", self.max_retry_delay)
        _number("jitter", self.jitter, least=0.0)
        if not _are_exceptions(self.retry_on):
            raise InvalidOption(
                f"retry_on must be an exception class or a tuple of them, got {self.retry_on!r}"
            )

    def override(self, options: JobOptions) -> "TaskOptions":
        """With what ``options`` say about the job itself."""
        own = {key: value for key, value in options.items() if key in _TASK_FIELDS}
        return replace(self, **own) if own else self  # type: ignore[arg-type]

    def policy(self) -> Policy:
        """What travels with each job."""
        return Policy(
            max_retries=self.retries,
            retry_delay=float(self.retry_delay),
            save_result=self.save_result,
            result_ttl=self.result_ttl,
            timeout=None if self.timeout is None else float(self.timeout),
        )


_TASK_FIELDS = frozenset(field.name for field in fields(TaskOptions))


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due, the id its caller gave it, and whose transaction it is stored in."""

    delay_ms: int = 0
    at_ms: int | None = None
    job_id: str | None = None
    connection: object | None = None

    def override(self, options: JobOptions) -> "Schedule":
        if "delay" in options and "run_at" in options:
            raise InvalidOption("give either delay or run_at, not both")
        changed = self
        if "delay" in options:
            changed = replace(changed, delay_ms=duration_ms("delay", options["delay"]), at_ms=None)
        if "run_at" in options:
            changed = replace(changed, delay_ms=0, at_ms=_instant_ms(options["run_at"]))
        if "job_id" in options:
            changed = replace(changed, job_id=check_job_id(options["job_id"]))
        if "connection" in options:
            changed = replace(changed, connection=options["connection"])
        return changed


def check_job_options(options: Iterable[str]) -> None:
    """Raises ``InvalidOption`` for a name that ``options(...)`` does not know."""
    known = JobOptions.__annotations__
    for name in options:
        if name not in known:
            raise unknown_option(name, known)


def unknown_option(name: str, known: Iterable[str]) -> InvalidOption:
    """The error for a misspelt option, with the nearest known name."""
    names = sorted(known)
    hint = did_you_mean(name, names, f"known options: {', '.join(names)}")
    return InvalidOption(f"unknown option {name!r}{hint}")


def check_name(name: object) -> None:
    """Raises ``InvalidOption`` unless ``name`` can name a task, or is None."""
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidOption(f"name must be a string that is not empty, got {name!r}")


def check_queue(name: object) -> str:
    """Raises ``InvalidOption`` unless ``name`` can name a queue."""
    if not isinstance(name, str):
        raise InvalidOption(f"queue must be a string, got {name!r} ({type(name).__name__})")
    if not _QUEUE.fullmatch(name):
        raise InvalidOption(
            f"queue must have 1 to 128 characters without spaces and braces, got {name!r}"
        )
    return name


def _whole(name: str, value: Any, *, least: int, most: int = 2**31 - 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidOption(f"{name} must be a whole number from {least} to {most}, got {value!r}")


def _number(name: str, value: Any, *, least: float) -> None:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value < least
    ):
        raise InvalidOption(f"{name} must be a number not below {least}, got {value!r}")


def _seconds(name: str, value: Any, *, above_zero: bool = False) -> None:
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= MAX_SECONDS
        and not (above_zero and value == 0)
    )
    if not fits:
        bound = "a positive number" if above_zero else "a number, not negative,"
        raise InvalidOption(f"{name} must be {bound} of seconds, got {value!r}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidOption(f"{name} must be True or False, got {value!r}")


def _are_exceptions(kinds: Any) -> bool:
    if _is_tuple(kinds):
        return all(map(_are_exceptions, kinds))
    return isinstance(kinds, type) and issubclass(kinds, Exception)


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def _instant_ms(instant: Any) -> int:
    if not isinstance(instant, datetime):
        raise InvalidOption(f"run_at must be a datetime, got {instant!r}")
    if instant.utcoffset() is None:
        raise InvalidOption(
            f"run_at must carry a time zone, got {instant!r}; for UTC use datetime.now(UTC)"
        )
    return to_ms(instant)
