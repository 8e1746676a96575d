"""Turns a failure into a retry, as long as the job has retries left."""

import random

from aioq._describe import describe
from aioq.errors import Abort, Retry, Snooze
from aioq.middleware._base import Middleware, Next, Order, Returned
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
        except (Snooze, Abort):
            raise
        except Retry as asked:
            if job.retries >= job.max_retries:
                raise Abort(
                    f"{asked}, but none of its {job.max_retries} retries is left"
                ) from asked
            if asked.delay is None:
                asked.delay = retry_delay(job)
            raise
        except Exception as error:
            if job.retries >= job.max_retries or not isinstance(error, job.options.retry_on):
                raise
            raise Retry(retry_delay(job), describe(error)) from error


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
