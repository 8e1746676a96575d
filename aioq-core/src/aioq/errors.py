"""Every exception that aioq raises on purpose.

    AioqError
    ├── ConfigurationError            a wrong option, URL, app path or plugin
    │   ├── InvalidOption             (also ValueError) an option of a task, a job or the worker
    │   ├── UnknownTask               (also LookupError) no such task in this app
    │   ├── NoBroker                  no broker was given and none can be found
    │   └── PluginError               a plugin cannot be loaded, or two claim one name
    ├── InvalidArguments              (also TypeError) a call that does not fit the task
    ├── SerializationError            (also ValueError) a value that cannot be stored or read
    ├── PayloadTooLarge               (also ValueError) arguments or result over the size limit
    ├── TaskTimeout                   (also TimeoutError) an attempt ran longer than its timeout
    ├── EnqueueError                  a job was not enqueued, or nobody knows
    │   ├── JobExists                 the id given by the caller is taken
    │   └── EnqueueManyError          says which jobs of the call were accepted
    ├── BrokerError                   the store said no, or nothing
    │   ├── BrokerUnavailable         (also ConnectionError) out of reach: try again
    │   ├── BatchRejected             an item of this batch cannot be stored; nothing was
    │   └── NotSupported              this broker does not offer what was asked
    └── JobError                      about one job, raised where it is awaited
        ├── JobFailed                 it ended failed or dead
        ├── JobCancelled              it was cancelled
        ├── JobNotFound               (also LookupError) the store does not know it (any more)
        └── ResultNotSaved            it completed, but its task does not save results

``Retry``, ``Snooze`` and ``Abort`` are raised *by* a task to steer its job; they are no errors of
aioq and stand apart from this tree.

Where a page of the documentation helps, a traceback ends in a note that names it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

__all__ = [
    "Abort",
    "AioqError",
    "BatchRejected",
    "BrokerError",
    "BrokerUnavailable",
    "ConfigurationError",
    "EnqueueError",
    "EnqueueManyError",
    "InvalidArguments",
    "InvalidOption",
    "JobCancelled",
    "JobError",
    "JobExists",
    "JobFailed",
    "JobNotFound",
    "NoBroker",
    "NotSupported",
    "PayloadTooLarge",
    "PluginError",
    "ResultNotSaved",
    "Retry",
    "SerializationError",
    "Snooze",
    "TaskTimeout",
    "UnknownTask",
]


Self = TypeVar("Self", bound="_Portable")


class _Portable(Exception):
    """Survives pickle and copy, which by default call ``__init__`` with the message alone."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, vars(self))

    def __copy__(self: Self) -> Self:
        """The same error for somebody else, who may add notes and raise it."""
        error = _rebuild(type(self), self.args, vars(self))
        if hasattr(self, "__notes__"):
            error.__notes__ = list(self.__notes__)
        error.__cause__, error.__context__ = self.__cause__, self.__context__
        error.__suppress_context__ = self.__suppress_context__
        return error.with_traceback(self.__traceback__)


def _rebuild(kind: type[Self], args: tuple[Any, ...], state: dict[str, Any]) -> Self:
    error = kind.__new__(kind, *args)
    error.args = args  # those of an OSError are otherwise left to its __init__
    vars(error).update(state)
    return error


_CENTURY = 100 * 366 * 86_400


_AT_START = "errors.md#while-a-program-is-put-together"
_ON_ENQUEUE = "errors.md#while-a-job-is-enqueued"


class AioqError(_Portable):
    """Base of everything aioq raises because something is wrong."""

    page: ClassVar[str | None] = None
    """The page of the documentation that helps: ``"errors.md#while-a-job-is-enqueued"``."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if self.page is not None:
            self.add_note(f"In the documentation of aioq: {self.page}")


class ConfigurationError(AioqError):
    """The program or its settings are wrong; trying again changes nothing."""

    page = _AT_START


class InvalidOption(ConfigurationError, ValueError):
    """An option has an unknown name, a wrong type or a value out of range."""


class UnknownTask(ConfigurationError, LookupError):
    """No task of this name is registered in the app."""


class NoBroker(ConfigurationError):
    """No broker was given, no URL is set and no embedded broker is installed."""

    page = "install.md"


class PluginError(ConfigurationError):
    """A plugin cannot be loaded, or two plugins claim the same name."""

    page = "plugins.md#what-is-installed"


class InvalidArguments(AioqError, TypeError):
    """The arguments do not fit the task's signature or annotations; nothing was enqueued."""

    page = "tasks.md#arguments"


class SerializationError(AioqError, ValueError):
    """A value cannot be turned into bytes, or bytes cannot be turned back."""

    page = "tasks.md#arguments"


class PayloadTooLarge(AioqError, ValueError):
    """Arguments or a result are larger than the broker's ``max_payload`` (bytes)."""

    page = _ON_ENQUEUE


class TaskTimeout(AioqError, TimeoutError):
    """An attempt ran longer than its task's ``timeout`` (seconds); it is retried like any error."""


class EnqueueError(AioqError):
    """A job could not be enqueued; the message says whether it may be stored all the same."""

    page = _ON_ENQUEUE


class JobExists(EnqueueError):
    """A job with the id given by the caller is live, or its record is still kept."""


class EnqueueManyError(EnqueueError):
    """Some jobs of one ``enqueue_many`` call were not accepted.

    Attributes:
        accepted: ids of the jobs the store has accepted.
        errors: id of each other job -> the exception that says why it was not.
    """

    def __init__(self, accepted: Sequence[str], errors: dict[str, AioqError]) -> None:
        first = next(iter(errors.values()))
        total = len(accepted) + len(errors)
        super().__init__(
            f"{len(errors)} of {total} jobs were not enqueued ({len(accepted)} were); "
            f"the first reason: {first}"
        )
        self.accepted = list(accepted)
        self.errors = errors


class BrokerError(AioqError):
    """The store refused a call or answered with an error."""


class BrokerUnavailable(BrokerError, ConnectionError):
    """The store is out of reach, slow or busy; the same call may succeed later."""


class BatchRejected(BrokerError):
    """At least one item of the batch cannot be stored. Nothing of the batch was applied."""


class NotSupported(BrokerError):
    """The broker does not offer this call (see its ``capabilities``)."""


class JobError(AioqError):
    """Something about one job; ``job_id`` names it."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(JobError):
    """The job ended ``failed`` or ``dead``.

    Attributes:
        job_id: the job.
        status: ``"failed"`` (its task gave up) or ``"dead"`` (the system gave up).
        error: the last error as one line, ``"ValueError: boom"``.
        traceback: its traceback as text, where one was recorded.
    """

    def __init__(
        self, message: str, *, job_id: str, status: str, error: str | None, traceback: str | None
    ) -> None:
        super().__init__(message, job_id=job_id)
        self.status = status
        self.error = error
        self.traceback = traceback


class JobCancelled(JobError):
    """The job was cancelled before it completed."""


class JobNotFound(JobError, LookupError):
    """The store does not know the job: never enqueued, deleted, or its record has expired."""


class ResultNotSaved(JobError):
    """The job has no result to wait for: its task does not set ``save_result``."""


class Retry(_Portable):
    """Raise it in a task to run the job again after ``delay``; costs one of its retries.

    Args:
        delay: until the next attempt, in seconds or as timedelta; None takes the task's own retry
            delay. The attribute is in seconds.
        reason: text for the log and for ``job.error``.

    Raises:
        ValueError: the delay is negative, no number, or longer than a century.
    """

    def __init__(self, delay: float | timedelta | None = None, reason: str | None = None) -> None:
        super().__init__(reason or "the task asked for a retry")
        self.delay = None if delay is None else _seconds(delay)
        self.reason = reason


class Snooze(_Portable):
    """Raise it in a task to run the job again after ``delay``; costs no retry.

    Args:
        delay: in seconds or as timedelta. The attribute is in seconds.

    Raises:
        ValueError: the delay is negative, no number, or longer than a century.
    """

    def __init__(self, delay: float | timedelta) -> None:
        self.delay = _seconds(delay)
        super().__init__(f"snoozed for {self.delay} s")


class Abort(_Portable):
    """Raise it in a task to end the job ``failed`` now, whatever retries are left."""

    def __init__(self, reason: str = "the task aborted") -> None:
        super().__init__(reason)
        self.reason = reason


def _seconds(delay: Any) -> float:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _CENTURY:
        raise ValueError(f"delay must be a number of seconds, not negative, got {delay!r}")
    return seconds
