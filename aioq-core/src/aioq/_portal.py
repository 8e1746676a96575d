"""One event loop in a thread, for callers that have none; started on first use, closed at exit."""

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from aioq.errors import ConfigurationError

__all__ = ["call"]

R = TypeVar("R")

_lock = threading.Lock()
_stack = ExitStack()
_portal: BlockingPortal | None = None


def call(fn: Callable[[], Awaitable[R]]) -> R:
    """Run ``await fn()`` in the shared loop and wait for it.

    Raises:
        ConfigurationError: this thread runs an event loop, which would be blocked.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _started().call(fn)
    raise ConfigurationError(
        "enqueue_sync() would block the event loop that runs in this thread: "
        "use 'await task.enqueue(...)'"
    )


def _started() -> BlockingPortal:
    global _portal
    with _lock:
        if _portal is None:
            _portal = _stack.enter_context(start_blocking_portal("asyncio", name="aioq-sync"))
            atexit.register(_stack.close)
        return _portal
