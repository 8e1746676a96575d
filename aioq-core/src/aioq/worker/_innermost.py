"""The innermost step of the onion: the call of a task's function, and what may come out of it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from aioq._describe import describe
from aioq._loop import cancelled_from_outside, unwinds
from aioq._task import TaskDef
from aioq.middleware import RunningJob
from aioq.middleware._instructions import instruction_in
from aioq.worker._threads import Threads

__all__ = ["CANCELLED_ITSELF", "Handler", "innermost_of"]

CANCELLED_ITSELF = "the task was cancelled by its own code"

Handler: TypeAlias = Callable[[RunningJob], Awaitable[Any]]


def innermost_of(task: TaskDef[Any, Any], threads: Threads) -> Handler:
    """Calls the task's function, a plain one in a thread.

    What it raises comes out as an ``Exception``, so that it costs the job and not the worker; only
    cancels from outside, and what ends the interpreter, pass as they are.
    """
    fn: Callable[..., Awaitable[Any]] = (
        task.fn if task.is_async else partial(threads.run, task.name, task.fn)
    )

    async def call(job: RunningJob) -> Any:
        try:
            return await fn(job.ctx, *job.args, **job.kwargs)
        except asyncio.CancelledError as exc:
            if cancelled_from_outside():
                raise
            raise _instead_of(exc, CANCELLED_ITSELF) from None
        except BaseExceptionGroup as exc:
            if unwinds(exc):
                raise
            if instruction := instruction_in(exc):
                raise instruction  # noqa: B904 - its own cause is the one to keep
            if isinstance(exc, Exception):
                raise
            raise RuntimeError(f"the task raised {describe(exc)}") from exc
        except (Exception, KeyboardInterrupt, GeneratorExit):
            raise
        except SystemExit as exc:
            raise _instead_of(exc, f"the task called sys.exit({exc.code!r})") from None
        except BaseException as exc:
            if unwinds(exc):
                raise
            raise _instead_of(exc, f"the task raised {describe(exc)}") from None

    return call


def _instead_of(exc: BaseException, text: str) -> RuntimeError:
    """An error that costs the job only, from the line of the task that raised the other."""
    return RuntimeError(text).with_traceback(exc.__traceback__)
