"""Plain functions in threads, and the slots of those that outlive their jobs."""

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

from aioq._loop import call_soon, current_loop
from aioq.worker._attempts import Attempts

__all__ = ["Threads"]


class _Call:
    """One function in its thread."""

    __slots__ = ("begun", "given_up", "task")

    def __init__(self, task: str) -> None:
        self.task = task
        self.begun = threading.Lock()
        """Whoever takes it first decides whether the function runs."""
        self.given_up = False


class Threads:
    """Runs the plain functions of one worker.

    A thread cannot be stopped: when its job is given up (a time-out, a cancel), the function runs
    on, and keeps its slot until it returns. So there are never more threads than slots.

    Args:
        attempts: the slots.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._limiter = anyio.CapacityLimiter(attempts.slots)
        self._running: set[_Call] = set()
        self._left: set[_Call] = set()

    @property
    def running(self) -> int:
        """Functions that run now, given up ones included."""
        return len(self._running)

    @property
    def trouble(self) -> str | None:
        """Why no job can run here any more, as long as that is so."""
        if self._attempts.kept < self._attempts.slots:
            return None
        tasks = ", ".join(sorted({call.task for call in self._left}))
        return (
            f"all {self._attempts.slots} slots are kept by plain functions that still run "
            f"although their jobs were given up: {tasks}"
        )

    async def run(
        self, task: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """What ``function`` returns or raises.

        Args:
            task: whose function it is, for people.
            function: the function.
            args: its positional arguments.
            kwargs: its keyword arguments.
        """
        call = _Call(task)
        loop = current_loop()

        def in_thread() -> Any:
            if not call.begun.acquire(blocking=False):
                return None
            try:
                return function(*args, **kwargs)
            finally:
                self._running.discard(call)
                if call.given_up:
                    call_soon(loop, self._returned, call)

        self._running.add(call)
        try:
            return await anyio.to_thread.run_sync(
                in_thread, abandon_on_cancel=True, limiter=self._limiter
            )
        finally:
            if call.begun.acquire(blocking=False):
                self._running.discard(call)
            else:
                call.given_up = True
                if call in self._running:
                    self._left.add(call)
                    self._attempts.keep_slot()

    def _returned(self, call: _Call) -> None:
        if call in self._left:
            self._left.remove(call)
            self._attempts.give_slot_back()
