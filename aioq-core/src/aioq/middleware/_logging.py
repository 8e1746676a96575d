"""Logs how each attempt ended."""

from typing import Any

from aioq._describe import describe, exc_info
from aioq._log import get_logger
from aioq.errors import Abort, Retry, Snooze
from aioq.middleware._base import Middleware, Next, Order, Returned
from aioq.middleware._instructions import instruction_in
from aioq.middleware._running import RunningJob

__all__ = ["LoggingMiddleware"]


class LoggingMiddleware(Middleware):
    """Success is DEBUG, a retry WARNING, a failure ERROR; never arguments or results."""

    order = Order.LOG

    def __init__(self) -> None:
        self._log: Any = get_logger()

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        try:
            value = await call_next(job)
        except Exception as raised:
            self._tell(job, instruction_in(raised) or raised)
            raise
        self._log.debug("job.completed")
        return value

    def _tell(self, job: RunningJob, error: Exception) -> None:
        match error:
            case Retry(delay=delay):
                self._log.warning(
                    "job.retry",
                    delay=delay,
                    retries_left=job.max_retries - job.retries - 1,
                    reason=str(error),
                    **_fields(job),
                )
            case Snooze(delay=delay):
                self._log.debug("job.snoozed", delay=delay)
            case Abort(reason=reason):
                self._log.error("job.failed", reason=reason, **_fields(job))
            case _ if job.stop_reason is not None and error is not job.unsaved:
                pass  # of its clean-up: the worker tells of it itself
            case _:
                self._log.error(
                    "job.failed", reason=describe(error), exc_info=exc_info(error), **_fields(job)
                )


def _fields(job: RunningJob) -> dict[str, Any]:
    """Names the job also where the user's structlog does not merge context variables."""
    return {
        "job_id": job.id,
        "task": job.task_name,
        "queue": job.queue,
        "attempt": job.attempt,
    }
