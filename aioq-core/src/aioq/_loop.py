"""The event loop of the caller, asyncio's or trio's: as a key, and reached from other threads."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from trio.lowlevel import TrioToken

    Loop: TypeAlias = asyncio.AbstractEventLoop | TrioToken
else:
    Loop = Any

__all__ = [
    "Loop",
    "call_soon",
    "cancelled_from_outside",
    "current_loop",
    "has_ended",
    "is_running",
    "stray_cancel",
    "unwinds",
]


def current_loop() -> Loop:
    """The loop that runs in this thread.

    Raises:
        RuntimeError: none does.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if "trio" not in sys.modules:
            raise
    from trio.lowlevel import current_trio_token

    return current_trio_token()


def is_running() -> bool:
    """Whether a loop runs in this thread, which waiting would block."""
    try:
        current_loop()
    except RuntimeError:
        return False
    return True


def has_ended(loop: Loop) -> bool:
    """Whether this loop is known to be over; of a trio loop that is not known."""
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def call_soon(loop: Loop, function: Callable[..., Any], *args: Any) -> None:
    """Call ``function`` in ``loop``, from any thread; nothing happens when the loop has ended."""
    try:
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(function, *args)
        else:
            loop.run_sync_soon(function, *args)
    except RuntimeError:
        # closed, and all who waited in it are gone; trio's RunFinishedError is one as well
        return


def cancelled_from_outside() -> bool:
    """Of a cancel that was just met: whether this task was told to end, which on asyncio is not
    certain: what it waits for may have raised the same. On trio it always was."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True
    return task is not None and task.cancelling() > 0


def stray_cancel(error: BaseException) -> bool:
    """Whether this is a cancel that nobody asked of this task: what it called raised it itself, and
    the work goes on."""
    return isinstance(error, asyncio.CancelledError) and not cancelled_from_outside()


def unwinds(error: BaseException) -> bool:
    """Whether trio is on its way to a cancelled scope with this: it must not be stopped."""
    if "trio" not in sys.modules:
        return False
    from trio import Cancelled

    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).subgroup(Cancelled) is not None
    return isinstance(error, Cancelled)
