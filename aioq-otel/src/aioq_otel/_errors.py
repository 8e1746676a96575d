"""How an attempt ended, as a span and a metric tell it."""

import os
from typing import Final, Literal, NamedTuple, TypeAlias

from opentelemetry.trace import Span, Status, StatusCode

from aioq.errors import Abort, Retry, Snooze, TaskTimeout
from aioq.middleware import RunningJob
from aioq_otel import _names as names

__all__ = ["Ending", "Outcome", "ending_of", "mark", "type_of"]

Outcome: TypeAlias = Literal[
    "success", "retry", "failure", "timeout", "cancelled", "snoozed", "lost"
]

SIGNALS: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
"""``logs``: exceptions are told by logs alone, as aioq's own line of a failure does; ``logs/dup``:
by logs and spans."""
LONGEST_MESSAGE: Final = 2000


class Ending(NamedTuple):
    """The outcome, and the error where there was one: an instruction of the task is none."""

    outcome: Outcome
    error: BaseException | None = None


def ending_of(job: RunningJob, raised: BaseException) -> Ending:
    """What it means that ``raised`` left the onion of this attempt."""
    match raised:
        case Snooze():
            return Ending("snoozed")
        case Retry(__cause__=cause):
            return Ending("retry", cause)
        case Exception() if job.stop_reason is not None and not isinstance(raised, Abort):
            # of the clean-up after a cancel of the worker's
            return _stopped(job)
        case TaskTimeout():
            return Ending("timeout", raised)
        case Exception():
            return Ending("failure", raised)
        case _:
            return _stopped(job)


def _stopped(job: RunningJob) -> Ending:
    return Ending("lost" if job.stop_reason == "lost" else "cancelled")


def type_of(error: BaseException) -> str:
    """``module.Name``; bare for what is built in."""
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def mark(span: Span, error: BaseException, *, with_message: bool) -> None:
    """Set the status of a span, and record the exception unless logs are to do that."""
    span.set_attribute(names.ERROR_TYPE, type_of(error))
    span.set_status(Status(StatusCode.ERROR, _message(error) if with_message else None))
    if with_message and os.environ.get(SIGNALS) != "logs":
        span.record_exception(error)


def _message(error: BaseException) -> str:
    try:
        return str(error)[:LONGEST_MESSAGE]
    except Exception:  # its own __str__
        return type(error).__qualname__
