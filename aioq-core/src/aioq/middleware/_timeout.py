"""Stops an attempt at its time-out."""

import anyio

from aioq.errors import TaskTimeout
from aioq.middleware._base import Middleware, Next, Order, Returned
from aioq.middleware._running import RunningJob

__all__ = ["TimeoutMiddleware"]


class TimeoutMiddleware(Middleware):
    """Cancels what runs longer than the job's ``timeout`` and raises ``TaskTimeout`` in its place.

    A plain function cannot be stopped: its thread goes on, its outcome is ignored, and its slot
    stays taken until it returns.
    """

    order = Order.LIMIT

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        timeout = job.policy.timeout
        if timeout is None:
            return await call_next(job)
        with anyio.move_on_after(timeout) as scope:
            return await call_next(job)
        assert scope.cancelled_caught
        raise TaskTimeout(f"ran longer than its timeout of {timeout:g} s")
