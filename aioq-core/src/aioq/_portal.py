"""Async code for callers without an event loop.

There is one loop in a thread for all of them, started on first use and closed at exit; what never
waits needs none.
"""

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from aioq.errors import ConfigurationError

__all__ = ["call", "run_here"]

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


def run_here(awaitable: Awaitable[R]) -> R:
    """The answer of something awaitable that never waits, in this thread and this context.

    Raises:
        ConfigurationError: it wanted to wait.
    """
    running: Generator[Any, Any, R] = awaitable.__await__()
    try:
        next(running)
    except StopIteration as end:
        answer: R = end.value
        return answer
    running.close()
    raise ConfigurationError(
        "a middleware waits for something in around_enqueue, which enqueue_sync() on a connection "
        "cannot: use 'await task.enqueue(...)' on an asynchronous connection"
    )


def _started() -> BlockingPortal:
    global _portal
    with _lock:
        if _portal is None:
            _portal = _stack.enter_context(start_blocking_portal("asyncio", name="aioq-sync"))
            atexit.register(_stack.close)
        return _portal
