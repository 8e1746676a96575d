"""Handing operations to a thread and bringing the answers back, many at a time.

``AsyncCall`` is the only place that knows asyncio's event loop; ``TrioCall`` is its sibling.
"""

import asyncio
import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import anyio

from aioq.errors import BrokerUnavailable
from aioq.plugins import Loop, call_soon, current_loop

if TYPE_CHECKING:
    from aioq_sqlite._trio import TrioCall

__all__ = [
    "Answer",
    "AsyncCall",
    "Call",
    "CallThread",
    "Operation",
    "ThreadCall",
    "Undo",
    "awaited",
    "closed",
    "deliver",
]

Operation: TypeAlias = Callable[[Any], Any]
Undo: TypeAlias = Callable[[Any], Awaitable[None]]

CHECK_EVERY = 0.01
"""Seconds after which a task that waits looks after the thread it waits for."""
PAUSE = 0.001
"""Seconds that the loop gives to that thread."""
MOST_CALLS = 64
"""Operations in one transaction, so that no process holds the lock for long."""


class Call(ABC):
    """One operation and who waits for it."""

    __slots__ = ("operation",)

    loop: Loop | None = None

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    @abstractmethod
    def wanted(self) -> bool:
        """False when nobody waits any more."""

    @abstractmethod
    def begin(self) -> bool:
        """Called before the operation is applied; False when it was given up before."""

    @abstractmethod
    def answer(self, value: Any, error: BaseException | None) -> None:
        """End the wait; called on the caller's own loop."""


class AsyncCall(Call):
    """Waited for by a task, which may be cancelled at any moment."""

    __slots__ = ("_applied", "_future", "_late", "_start", "_timer", "loop")

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        loop = asyncio.get_running_loop()
        self.loop: Loop | None = loop
        self._future: asyncio.Future[Any] = loop.create_future()
        self._applied: asyncio.Event | None = None
        self._late: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Whoever takes it first decides: the thread that it is applied, the task that it is not.
        self._start = threading.Lock()

    def wanted(self) -> bool:
        return not self._future.done()

    def begin(self) -> bool:
        return self._start.acquire(blocking=False)

    def answer(self, value: Any, error: BaseException | None) -> None:
        if self._future.done():
            self._late = Answer(self, value, error)
            if self._applied is not None:
                self._applied.set()
        elif error is None:
            self._future.set_result(value)
        else:
            self._future.set_exception(error)

    async def result(self, within: float | None = None) -> Any:
        """The answer.

        Args:
            within: seconds after which ``BrokerUnavailable`` is raised.
        """
        if within is not None:
            self._set_timer(self._future.get_loop().time() + within, within)
        try:
            return await self._future
        except asyncio.CancelledError:
            if not self._future.cancelled():
                # The answer came in the same turn of the loop as the cancellation.
                error = self._future.exception()
                self._late = Answer(self, None if error else self._future.result(), error)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def outcome(self, within: float, undo: Undo | None = None) -> Any:
        """The answer to a write.

        When the waiting task is cancelled, the operation is either never applied or it has been
        applied, and undone, when this returns; ``undo`` gets the answer that nobody has seen.
        """
        try:
            return await self.result(within)
        except asyncio.CancelledError:
            if not self.begin():
                self._applied = asyncio.Event()
                with anyio.move_on_after(within, shield=True):
                    if self._late is None:
                        await self._applied.wait()
                    if self._late is not None and self._late.error is None and undo is not None:
                        await undo(self._late.value)
            raise

    def _check(self, deadline: float, within: float) -> None:
        """The answer takes long: make sure that it can be made at all, or give up."""
        if self._future.done():
            return
        if self._future.get_loop().time() >= deadline:
            self.begin()
            self.answer(None, too_slow(within))
            return
        give_way()
        self._set_timer(deadline, within)

    def _set_timer(self, deadline: float, within: float) -> None:
        loop = self._future.get_loop()
        self._timer = loop.call_at(
            min(loop.time() + CHECK_EVERY, deadline), self._check, deadline, within
        )


def awaited(operation: Operation) -> "AsyncCall | TrioCall":
    """A call for a task of the running event loop."""
    if isinstance(current_loop(), asyncio.AbstractEventLoop):
        return AsyncCall(operation)
    from aioq_sqlite._trio import TrioCall

    return TrioCall(operation)


class ThreadCall(Call):
    """Waited for by a thread."""

    __slots__ = ("_future",)

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self._future: Future[Any] = Future()

    def wanted(self) -> bool:
        return not self._future.done()

    def begin(self) -> bool:
        return self._future.set_running_or_notify_cancel()

    def answer(self, value: Any, error: BaseException | None) -> None:
        with contextlib.suppress(InvalidStateError):
            if error is None:
                self._future.set_result(value)
            else:
                self._future.set_exception(error)

    def result(self, within: float) -> Any:
        """The answer; ``BrokerUnavailable`` when it takes longer than ``within`` seconds."""
        try:
            return self._future.result(within)
        except TimeoutError:
            self._future.cancel()
            raise too_slow(within) from None


_gave_way_at = 0.0


def give_way() -> None:
    """Let the other threads of this process run for a moment.

    Two threads take turns at Python's global lock, but a loop that is always busy and polls its
    sockets every millisecond gets it back before any other thread has woken up, for as long as it
    is busy. The thread that a task waits for would starve.
    """
    global _gave_way_at
    now = time.monotonic()
    if now - _gave_way_at >= CHECK_EVERY / 2:
        time.sleep(PAUSE)
        _gave_way_at = time.monotonic()


def closed() -> BrokerUnavailable:
    """What a call gets that came too late."""
    return BrokerUnavailable("the broker has been closed; open it again to use it")


def too_slow(within: float) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"SQLite gave no answer within {within:g} s: another process holds the lock (is one of "
        f"them stopped?), or the disk stalls"
    )


class Answer(NamedTuple):
    """What became of a call."""

    call: Call
    value: Any = None
    error: BaseException | None = None


def deliver(answers: Iterable[Answer]) -> None:
    """Bring answers to those who wait: one wake-up per event loop."""
    by_loop: dict[Loop, list[Answer]] = {}
    for answer in answers:
        if answer.call.loop is None:
            answer.call.answer(answer.value, answer.error)
        else:
            by_loop.setdefault(answer.call.loop, []).append(answer)
    for loop, batch in by_loop.items():
        call_soon(loop, _hand_out, batch)


def _hand_out(batch: Sequence[Answer]) -> None:
    for call, value, error in batch:
        call.answer(value, error)


class CallThread(ABC):
    """A daemon thread that serves calls in order, many at a time, until it is stopped."""

    def __init__(self, name: str) -> None:
        self._inbox: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._refusal: Exception | None = None
        self._stopping = False
        self._ended = False
        self._farewell: list[Call] = []
        # in the context of who opens it, which is aioq's own
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name=name, daemon=True
        )

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def put(self, call: Call) -> None:
        """Hand over a call.

        Raises:
            BrokerUnavailable: the thread has been stopped.
        """
        with self._gate:
            if self._refusal is not None:
                raise self._refusal
            self._inbox.put(call)

    def stop(self, farewell: Call | None = None) -> None:
        """Serve what was handed over, then end; ``farewell`` is answered last. Does not wait."""
        with self._gate:
            if self._refusal is None:
                self._refusal = closed()
                self._inbox.put(None)
            if farewell is not None and not self._ended:
                self._farewell.append(farewell)
                return
        if farewell is not None:
            deliver([Answer(farewell)])

    def fail(self, error: Exception) -> None:
        """Answer everything with ``error``, now and later: the thread has ended or never began."""
        with self._gate:
            self._ended = True
            self._refusal = error
            left = [call for call in self._drain() if call is not None]
            farewell, self._farewell = self._farewell, []
        deliver([*(Answer(call, None, error) for call in left), *map(Answer, farewell)])

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end; not from the thread itself."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @abstractmethod
    def _begin(self) -> None:
        """Before the first call; when it fails, every call gets its error."""

    @abstractmethod
    def _serve(self) -> None:
        """Take and answer some calls (``_take``), or do what is due."""

    @abstractmethod
    def _end(self) -> None:
        """After the last call."""

    def _run(self) -> None:
        try:
            self._begin()
            try:
                while not self._stopping:
                    self._serve()
            finally:
                self._end()
        except Exception as exc:
            self.fail(exc)
        else:
            self.fail(closed())

    def _take(self, timeout: float | None = None) -> list[Call]:
        """Wait for a call and take all that have come, up to a limit; none after ``timeout``."""
        try:
            first = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return []
        calls: list[Call] = []
        for call in (first, *self._drain(MOST_CALLS - 1)):
            if call is None:
                self._stopping = True
            elif call.wanted():
                calls.append(call)
        return calls

    def _drain(self, limit: int | None = None) -> list[Call | None]:
        taken: list[Call | None] = []
        while limit is None or len(taken) < limit:
            try:
                taken.append(self._inbox.get_nowait())
            except queue.Empty:
                break
        return taken
