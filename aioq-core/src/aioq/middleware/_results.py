"""Keeps the return value of tasks that save their result."""

from aioq.middleware._base import Middleware, Next, Order, Returned
from aioq.middleware._running import RunningJob

__all__ = ["ResultMiddleware"]


class ResultMiddleware(Middleware):
    """Keeps what the task returned on the running job; the worker stores it as it completes."""

    order = Order.RESULT

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        value = await call_next(job)
        if job.policy.save_result:
            job.keep(value)
        return value
