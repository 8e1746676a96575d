"""What a middleware is: a layer of the onion around each call and each enqueue."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NewType, TypeAlias

from aioq._job import Job
from aioq._outcome import Outcome
from aioq.middleware._running import RunningJob

if TYPE_CHECKING:
    from aioq._app import Aarq

__all__ = ["Around", "FunctionMiddleware", "Middleware", "Next", "Order", "Returned", "Send"]

Returned = NewType("Returned", object)
"""What the task returned. A type of its own, so that a layer that forgets its ``return`` is a type
error."""
Next: TypeAlias = Callable[[RunningJob], Awaitable[Returned]]
Send: TypeAlias = Callable[[Sequence[Job[Any]]], Awaitable[None]]
Around: TypeAlias = Callable[[RunningJob, Next], Awaitable[Returned]]


class Order(IntEnum):
    """Named places in the chain, outermost first; layers of one place keep their registration
    order."""

    TRACE = 100
    LOG = 200
    RESULT = 300
    RETRY = 400
    CUSTOM = 500
    LIMIT = 600


class Middleware:
    """Base of all middleware; every method does nothing until it is overridden.

    One instance serves all jobs at once: per-job data belongs on the job (``job.state``) or in a
    local variable, never on ``self``. Exceptions travel through the onion, so a transaction or a
    span is simply ``async with ...: return await call_next(job)``.
    """

    order: int = Order.CUSTOM

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        """Around one attempt, in the worker. Return what ``call_next`` returned.

        ``Retry``, ``Snooze``, ``Abort`` and ``asyncio.CancelledError`` pass through here; let them.
        """
        return await call_next(job)

    async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
        """Around one enqueue, in the client; ``jobs`` holds one job or many.

        May add to ``job.headers``. Raising here means that nothing is enqueued.
        """
        await call_next(jobs)

    def lifespan(self, app: "Aarq") -> AbstractAsyncContextManager[None] | None:
        """Entered when the worker starts, left after its last job. None for nothing to do."""
        return None

    def background(self, app: "Aarq") -> None:
        """Called when ``app`` is put together, in the context that aioq's own tasks run in copies
        of: polls, renewals, batches to the store.

        What it does to context variables holds there, never in jobs nor for callers.
        """

    async def settled(self, job: RunningJob, outcome: Outcome) -> None:
        """Told after the store has accepted how the attempt ended; never for a stale one.

        What it raises is logged and changes nothing.
        """


class FunctionMiddleware(Middleware):
    """An async function ``(job, call_next)`` as a middleware."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        return await self._around(job, call_next)

    def __repr__(self) -> str:
        return f"<middleware {getattr(self._around, '__qualname__', self._around)!s}>"
