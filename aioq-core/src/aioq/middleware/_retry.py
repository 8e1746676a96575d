"""Turns a failure into a retry, as long as the job has retries left."""

import random

from aioq._describe import describe
from aioq.errors import Abort, Retry, Snooze
from aioq.middleware._base import Middleware, Next, Order, Returned
from aioq.middleware._instructions import instruction_in
from aioq.middleware._running import RunningJob

__all__ = ["RetryMiddleware", "retry_delay"]


class RetryMiddleware(Middleware):
    """Raises ``Retry`` from the error of a task that may be tried again.

    A ``Retry`` the task raised itself passes with its own delay; both spend one of the job's
    retries. Without one left a failure stays what it is, and a raised ``Retry`` becomes ``Abort``.
    """

    order = Order.RETRY

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        try:
            return await call_next(job)
        except Exception as raised:
            error = instruction_in(raised) or raised
            self._decide(job, error)
            if error is raised:
                raise
            raise error  # noqa: B904 - its own cause is the one to keep

    @staticmethod
    def _decide(job: RunningJob, error: Exception) -> None:
        """Raise what takes the place of ``error``, if anything does."""
        left = job.max_retries - job.retries
        match error:
            case Retry() if left <= 0:
                spent = f"none of its {job.max_retries} retries is left"
                raise Abort(f"{error}, but {spent}") from error
            case Retry(delay=None):
                error.delay = retry_delay(job)
            case Retry() | Snooze() | Abort():
                return
            case _ if error is job.unsaved:
                return  # a result that cannot be saved: another run would end like this
            case _ if job.stop_reason is not None:
                return  # of its clean-up: the worker says what becomes of it
            case _ if left > 0 and isinstance(error, job.options.retry_on):
                raise Retry(retry_delay(job), describe(error)) from error
            case _:
                return


def retry_delay(job: RunningJob) -> float:
    """Seconds to wait: ``retry_delay * backoff ** retries`` up to ``max_retry_delay``, then a
    random share of up to ``jitter`` more."""
    options = job.options
    try:
        delay = job.policy.retry_delay * options.backoff**job.retries
    except OverflowError:
        delay = options.max_retry_delay
    delay = min(delay, max(options.max_retry_delay, job.policy.retry_delay))
    if options.jitter:
        delay *= 1 + random.uniform(0, options.jitter)
    return delay
