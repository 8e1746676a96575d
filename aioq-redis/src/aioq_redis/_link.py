"""Connections: a batch of commands goes out together and its replies come back in order."""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Any

import hiredis
from redis.exceptions import RedisError, ResponseError

from aioq_redis._address import Address, Server

__all__ = ["Link", "Node", "pack"]

_RESTED = 1.0
"""Seconds after which an idle connection is asked whether it still leads anywhere."""
_PONG = 1.0
"""Seconds for the answer; a call that does without asking waits its whole time."""

# The driver's own stub leaves the item types of a command open.
_pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def pack(command: Sequence[Any]) -> bytes:
    """A command in Redis' protocol."""
    return _pack(tuple(command))


_PING = pack((b"PING",))


class Link:
    """One connection, for one caller at a time.

    When a call fails, runs out of time or is cancelled, the connection is gone: replies that are
    still on their way can never be taken for those of another call.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._used = monotonic()

    @classmethod
    async def connect(cls, server: Server, address: Address, within: float) -> "Link":
        """A connection that is ready for commands, within so many seconds."""
        connection = server.connection(address, within)
        try:
            async with asyncio.timeout(within):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection)

    async def usable(self, within: float) -> bool:
        """Neither closed nor holding bytes that nobody asked for; after a rest it has to answer.

        Raises:
            TimeoutError: it is silent.
        """
        try:
            if await self._connection.can_read():
                return False
            if monotonic() - self._used > _RESTED:
                await self.call(_PING, 1, min(_PONG, within / 2))
        except TimeoutError:  # which is an OSError
            raise
        except (OSError, RedisError):
            return False
        return True

    async def call(self, packed: bytes, replies: int, within: float) -> list[Any]:
        """``exchange`` within so many seconds."""
        with _Deadline(within):
            return await self.exchange(packed, replies)

    async def exchange(self, packed: bytes, replies: int) -> list[Any]:
        """Send commands and read their replies; an error that Redis answers is one of these."""
        await self._connection.send_packed_command(packed, check_health=False)
        answers = [await self._read() for _ in range(replies)]
        self._used = monotonic()
        return answers

    async def send(self, packed: bytes, within: float) -> None:
        """Send without waiting for an answer."""
        async with asyncio.timeout(within):
            await self._connection.send_packed_command(packed, check_health=False)

    async def read(self, within: float) -> Any:
        """What the server says next; None when it says nothing for so many seconds."""
        return await self._connection.read_response(disable_decoding=True, timeout=within)

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    async def _read(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True)
        except ResponseError as exc:
            return exc


class _Deadline:
    """``asyncio.timeout`` for the path that every call takes, at a quarter of the cost."""

    __slots__ = ("_before", "_expired", "_task", "_timer")

    def __init__(self, within: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._expired = False
        self._timer = asyncio.get_running_loop().call_later(within, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> None:
        """It runs already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._expired:
            return
        alone = self._task.uncancel() <= self._before
        if alone and isinstance(exc, asyncio.CancelledError):
            # Cancelled by the deadline and by nobody else: to the caller that is no cancellation.
            raise TimeoutError from exc


class Node:
    """One server and the connections to it.

    Args:
        server: how to connect.
        address: where to.
        most: connections for calls; those that block or listen are besides.
        within: seconds for a call, and for a connection to be made.
    """

    def __init__(self, server: Server, address: Address, most: int, within: float) -> None:
        self.address = address
        self.within = within
        self._server = server
        self._idle: list[Link] = []
        self._room = asyncio.Semaphore(most)
        self._closed = False

    async def call(self, packed: bytes, replies: int) -> list[Any]:
        """As ``Link.exchange``, on any free connection; one deadline for all that this takes."""
        try:
            with _Deadline(self.within):
                async with self._room:
                    link = await self._take()
                    answers = await link.exchange(packed, replies)
        except TimeoutError:
            # Whatever silenced this connection has likely silenced its neighbours.
            await self._drop_idle()
            raise
        if self._closed:
            await link.close()
        else:
            self._idle.append(link)
        return answers

    async def connect(self) -> Link:
        """A connection of the caller's own."""
        return await Link.connect(self._server, self.address, self.within)

    async def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._closed = True
        await self._drop_idle()

    async def _take(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            try:
                if await link.usable(self.within):
                    return link
            except TimeoutError:
                await self._drop_idle()
            except BaseException:
                await link.close()
                raise
            await link.close()
        return await self.connect()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for link in idle:
            await link.close()
