"""What a broker has in one event loop: connections, bells and who hears them, and who waits."""

import asyncio
from functools import partial
from typing import Final

from aioq_postgres._connect import Connection, Server
from aioq_postgres._hints import Ear
from aioq_postgres._marks import Marks
from aioq_postgres._notify import Ringer, channel_of
from aioq_postgres._pool import Pool
from aioq_postgres._sql import Texts
from aioq_postgres._waiters import Waiters

__all__ = ["Local"]

FAREWELL: Final = 2.0
"""Seconds for calls to end, and for goodbyes to the server."""


class Local:
    """The parts of one event loop.

    Args:
        server: where to connect.
        size: most connections.
        texts: SQL of the broker.
    """

    def __init__(self, server: Server, size: int, texts: Texts) -> None:
        self.pool = Pool(server, size)
        self._texts = texts
        self._channel = channel_of(texts.schema)
        self._patience = server.patience
        self.marks = Marks()
        self.ears: set[Ear] = set()
        self.ringer = Ringer(self._ring)
        self.waiters = Waiters(self.pool, texts, server.patience)

    async def _ring(self, payloads: list[str]) -> None:
        await self.pool.call(partial(self._notify, payloads=payloads), self._patience)

    async def _notify(self, connection: Connection, payloads: list[str]) -> None:
        await connection.execute(
            "select pg_notify($1, payload) from unnest($2::text[]) as p (payload)",
            self._channel,
            payloads,
        )

    async def close(self) -> None:
        """Let calls come to their end and ring what is left, then let go of the connections.

        What does not end in time is dropped.
        """
        self.waiters.close()
        end = asyncio.get_running_loop().time() + FAREWELL
        try:
            await self.pool.rest(FAREWELL)
            await self.ringer.drain(max(0.0, end - asyncio.get_running_loop().time()))
            await self.pool.close(FAREWELL)
        finally:
            self.pool.terminate()
