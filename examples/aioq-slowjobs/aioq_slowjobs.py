"""Warns of jobs that take long; AIOQ_SLOW_SECONDS says how long that is (1)."""

import os
import time
from collections.abc import Iterable

import structlog

from aioq import Aarq, Middleware
from aioq.middleware import Next, Order, Returned, RunningJob
from aioq.plugins import hookimpl

__all__ = ["SlowJobs"]

log = structlog.get_logger()


class SlowJobs(Middleware):
    """Logs a warning after each attempt that took longer than `limit` seconds."""

    order = Order.LOG + 10  # inside LOG, so that the line has the job's id, task and queue

    def __init__(self, limit: float) -> None:
        self.limit = limit

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        started = time.monotonic()
        try:
            return await call_next(job)
        finally:
            took = time.monotonic() - started
            if took > self.limit:
                log.warning("job.slow", seconds=round(took, 3), limit=self.limit)


@hookimpl
def aioq_middlewares(app: Aarq) -> Iterable[Middleware]:
    return [SlowJobs(float(os.environ.get("AIOQ_SLOW_SECONDS", "1")))]
