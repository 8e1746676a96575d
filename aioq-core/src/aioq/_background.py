"""Tasks of aioq's own, in a context of their own, on asyncio and on trio.

Nothing that runs for several callers may inherit the context variables (a trace span, a request)
of the one that happened to start it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine as from_generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from aioq._trio import TrioTask

__all__ = ["Task", "join", "spawn", "start", "within"]

R = TypeVar("R")

_running: set["Task"] = set()


class Task(Protocol):
    """``asyncio.Task``, or what stands for it on trio."""

    def cancel(self, msg: Any = None) -> Any: ...
    def done(self) -> bool: ...
    def add_done_callback(self, fn: Callable[[Any], object], /) -> None: ...


def start(coroutine: Coroutine[Any, Any, Any], name: str, context: Context | None = None) -> Task:
    """Run ``coroutine`` as a task in a copy of ``context``, or in an empty one; it is kept alive
    until it ends."""
    task = spawn(coroutine, Context() if context is None else context.copy(), name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def spawn(coroutine: Coroutine[Any, Any, Any], context: Context, name: str | None = None) -> Task:
    """Run ``coroutine`` as a task in this very context; asyncio needs the caller to hold it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        from aioq._trio import TrioTask

        return TrioTask(coroutine, context, name)
    return loop.create_task(coroutine, name=name, context=context)


async def join(task: Task) -> None:
    """Wait for the end of a task, and raise what it raised; who is cancelled here leaves it be."""
    if isinstance(task, asyncio.Task):
        await asyncio.shield(cast("asyncio.Task[None]", task))
    else:
        await cast("TrioTask", task).join()


@from_generator
def within(context: Context, coroutine: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
    """Await ``coroutine`` in this task, but in another context; so does all that it starts."""
    step: Callable[..., Any] = coroutine.send
    value: Any = None
    while True:
        try:
            waits_for = context.run(step, value)
        except StopIteration as end:
            result: R = end.value
            return result
        try:
            value = yield waits_for
            step = coroutine.send
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as exc:
            step, value = coroutine.throw, exc
