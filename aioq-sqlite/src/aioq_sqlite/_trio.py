"""``AsyncCall`` on trio; imported where it runs."""

import threading
from typing import Any

import trio

from aioq.plugins import Loop, current_loop
from aioq_sqlite._calls import CHECK_EVERY, Call, Operation, Undo, give_way, too_slow

__all__ = ["TrioCall"]


class TrioCall(Call):
    """Waited for by a task on trio, which may be cancelled at any moment."""

    __slots__ = ("_answered", "_error", "_gone", "_start", "_value", "loop")

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self.loop: Loop | None = current_loop()
        self._answered = trio.Event()
        self._gone = False
        self._value: Any = None
        self._error: BaseException | None = None
        # Whoever takes it first decides: the thread that it is applied, the task that it is not.
        self._start = threading.Lock()

    def wanted(self) -> bool:
        return not (self._gone or self._answered.is_set())

    def begin(self) -> bool:
        return self._start.acquire(blocking=False)

    def answer(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._answered.set()

    async def result(self, within: float | None = None) -> Any:
        """As ``AsyncCall.result``."""
        try:
            await self._wait(within)
        finally:
            self._gone = True
        if self._error is not None:
            raise self._error
        return self._value

    async def outcome(self, within: float, undo: Undo | None = None) -> Any:
        """As ``AsyncCall.outcome``."""
        try:
            return await self.result(within)
        except trio.Cancelled:
            if not self.begin():
                with trio.move_on_after(within) as scope:
                    scope.shield = True
                    await self._answered.wait()
                    if self._error is None and undo is not None:
                        await undo(self._value)
            raise

    async def _wait(self, within: float | None) -> None:
        if within is None:
            await self._answered.wait()
            return
        deadline = trio.current_time() + within
        while True:
            with trio.move_on_after(CHECK_EVERY):
                await self._answered.wait()
            if self._answered.is_set():
                return
            if trio.current_time() >= deadline:
                self.begin()
                raise too_slow(within)
            give_way()
