"""A few connections of one event loop, each call with a deadline.

Nothing is sent when a connection changes hands (no reset, no ``SET``), so a pooler in transaction
mode may stand in between. A connection that is in doubt is dropped, never repaired.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

import anyio
import asyncpg

from aioq.errors import BrokerUnavailable
from aioq_postgres._connect import Connection, Server
from aioq_postgres._errors import too_slow, translate

__all__ = ["Operation", "Pool"]

T = TypeVar("T")
Operation: TypeAlias = Callable[[Connection], Awaitable[T]]

ATTEMPTS: Final = 4
"""Tries of an operation that lost a deadlock."""


class Pool:
    """Connections to one server.

    Args:
        server: where to connect.
        size: most connections.
    """

    def __init__(self, server: Server, size: int) -> None:
        self._server = server
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._closed = False
        self._calls = 0
        self._quiet = asyncio.Event()
        """Set as the last call returns to its caller."""

    async def fill(self, count: int) -> None:
        """Make so many connections now.

        Raises:
            BrokerUnavailable: the server is out of reach.
            ConfigurationError: it does not let us in.
        """
        while len(self._all) < count:
            self._idle.append(await self._connect(opening=True))

    async def call(
        self,
        operation: "Operation[T]",
        within: float,
        undo: Callable[[T], Awaitable[object]] | None = None,
    ) -> T:
        """Run an operation on a connection of its own.

        When the waiting task is cancelled, the operation has either not begun, and never will, or
        it has come to its end when this returns; ``undo`` then gets the answer nobody has seen.

        Raises:
            BrokerUnavailable: no answer ``within`` so many seconds, or the connection broke.
            BatchRejected, BrokerError: the server refused.
        """
        begun = False

        async def begin(connection: Connection) -> T:
            nonlocal begun
            begun = True
            return await operation(connection)

        # A call on the wire is never cancelled: its answer would be taken for the next one's, or
        # the connection be lost. So it has a task of its own.
        task = asyncio.ensure_future(self._run(begin, within))
        self._calls += 1
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if not begun:
                task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
                if not task.cancelled() and task.exception() is None and undo is not None:
                    await undo(task.result())
            raise
        finally:
            self._calls -= 1
            if not self._calls:
                self._quiet.set()
        return task.result()

    async def _run(self, operation: "Operation[T]", within: float) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise BrokerUnavailable(
                f"{self._server.where}: all connections were busy for {within:g} s; where that "
                f"happens often, raise max_connections"
            ) from None
        try:
            connection = self._take() or await self._connect()
            return await self._use(connection, operation, deadline, within)
        finally:
            self._free.release()

    async def _use(
        self, connection: Connection, operation: "Operation[T]", deadline: float, within: float
    ) -> T:
        loop = asyncio.get_running_loop()
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            connection.terminate()

        timer = loop.call_at(deadline, expire)
        sound = False
        try:
            answer = await _insist(operation, connection)
        except Exception as exc:
            if late:
                # The others may hang in the same way, and each would cost a deadline.
                self._drop_idle()
                raise too_slow(self._server.where, within) from exc
            sound = isinstance(exc, asyncpg.PostgresError) and not connection.is_closed()
            translated = translate(exc, self._server.where)
            if isinstance(translated, BrokerUnavailable):
                sound = False
                if connection.is_closed():
                    # What ended this one has probably ended those that rest as well.
                    self._drop_idle()
            if translated is exc:
                raise
            raise translated from exc
        else:
            sound = True
            return answer
        finally:
            timer.cancel()
            self._give(connection, sound)

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._all.discard(connection)
        return None

    def _give(self, connection: Connection, sound: bool) -> None:
        if sound and not (self._closed or connection.is_closed() or connection.is_in_transaction()):
            self._idle.append(connection)
        else:
            self._all.discard(connection)
            connection.terminate()

    async def _connect(self, *, opening: bool = False) -> Connection:
        connection = await self._server.connect(opening=opening)
        if self._closed:
            connection.terminate()
            raise BrokerUnavailable(f"{self._server.where}: the broker has been closed")
        self._all.add(connection)
        return connection

    def _drop_idle(self) -> None:
        while self._idle:
            connection = self._idle.pop()
            self._all.discard(connection)
            connection.terminate()

    def terminate(self) -> None:
        """Drop all connections; what is on the wire fails. Only in the pool's own loop."""
        self._closed = True
        self._idle.clear()
        while self._all:
            self._all.pop().terminate()

    async def rest(self, patience: float) -> None:
        """Wait until every call has its answer; at most so many seconds."""
        try:
            async with asyncio.timeout(patience):
                while self._calls:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            return

    async def close(self, patience: float) -> None:
        """Say goodbye on idle connections and drop the others; see ``rest``."""
        self._closed = True
        idle, self._idle = self._idle, []
        try:
            async with asyncio.timeout(patience):
                for connection in idle:
                    await connection.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass
        finally:
            self.terminate()


async def _insist(operation: "Operation[T]", connection: Connection) -> T:
    """Run an operation, again when it was the one to give way in a deadlock."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await operation(connection)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            continue
    return await operation(connection)
