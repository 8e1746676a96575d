"""Async code for callers without an event loop.

There is one loop in a thread for all of them, started on first use and closed at exit; what never
waits needs none.
"""

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from aioq import _loop
from aioq._fork import after_fork
from aioq.errors import ConfigurationError

__all__ = ["call", "loop", "run_here"]

R = TypeVar("R")

PATIENCE_AT_EXIT = 5.0
"""Seconds for the connections of the loop to be closed."""


class _Portal:
    """The loop and its thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aioq-sync", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._ready.set()
        await self._end.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_AT_EXIT)


_lock = threading.Lock()
_portal: _Portal | None = None
_inherited: list[_Portal | None] = []


def call(fn: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run ``await fn()`` in the shared loop and wait for it.

    Raises:
        ConfigurationError: this thread runs an event loop, which would be blocked.
    """
    if _loop.is_running():
        raise ConfigurationError(
            "enqueue_sync() would block the event loop that runs in this thread: "
            "use 'await task.enqueue(...)'"
        )
    return asyncio.run_coroutine_threadsafe(fn(), _started().loop).result()


def loop() -> asyncio.AbstractEventLoop | None:
    """The shared loop, if it runs."""
    return _portal.loop if _portal is not None else None


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


def _started() -> _Portal:
    global _portal
    with _lock:
        if _portal is None:
            _portal = _Portal()
        return _portal


def _stop() -> None:
    if _portal is not None:
        _portal.stop()


def _renew() -> None:
    """The thread stayed with the parent."""
    global _lock, _portal
    _inherited.append(_portal)
    _lock, _portal = threading.Lock(), None


atexit.register(_stop)
after_fork(_renew)
