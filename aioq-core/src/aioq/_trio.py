"""What only trio knows; imported where it runs.

trio cancels scopes, not tasks: ``Cancelled`` has to reach the scope it came from, and until then
every wait raises it again.
"""

import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

import trio

__all__ = ["TrioTask"]

_log = logging.getLogger("aioq")


class TrioTask:
    """A task as asyncio has them: it belongs to nobody, and can be cancelled by itself."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], context: Context, name: str | None
    ) -> None:
        self._coroutine = coroutine
        self._whole = trio.CancelScope()
        self._part: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._joined = False
        self._error: Exception | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        trio.lowlevel.spawn_system_task(self._run, name=name, context=context)

    async def _run(self) -> None:
        try:
            with self._whole:
                await self._coroutine
        except Exception as exc:
            self._error = exc
            if not self._joined:
                _log.error("a task of aioq has failed", exc_info=exc)
        finally:
            self._ended.set()
            for callback in self._callbacks:
                callback(self)

    def cancel(self, msg: object = None) -> None:
        """Cancel the part that is ``stoppable``, or else all of it."""
        (self._part or self._whole).cancel()

    def done(self) -> bool:
        return self._ended.is_set()

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        self._callbacks.append(fn)

    async def join(self) -> None:
        """Wait for its end, and raise what it raised."""
        self._joined = True
        await self._ended.wait()
        if self._error is not None:
            raise self._error

    @contextmanager
    def stoppable(self) -> Generator[None, None, None]:
        """In this block of the task ``cancel`` ends the block, and the task goes on behind it."""
        with trio.CancelScope() as self._part:
            try:
                yield
            finally:
                self._part = None
