"""Hints for a worker: bells heard on a connection of its own, what upkeep has seen, and polls."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import asyncpg

from aioq.errors import AioqError
from aioq.plugins import Hint, Token, WorkerInfo
from aioq_postgres._connect import Connection, Server
from aioq_postgres._notify import channel_of, read_news

__all__ = ["Ear", "listen"]

POLL: Final = 5.0
"""Seconds after which there may be work that nobody has told of."""
PROBE_EVERY: Final = 15.0
_BACK_OFF: Final = (0.1, 5.0)

_log = logging.getLogger("aioq_postgres")


class Ear:
    """What one worker has heard; it may keep a connection that listens."""

    def __init__(self, queues: frozenset[str]) -> None:
        self._queues = queues
        self.heard = asyncio.Event()
        self.cancels: deque[Token] = deque()
        self.work: dict[str | None, None] = {}
        self._pause = _BACK_OFF[0]

    async def run(self, server: Server, channel: str) -> None:
        """Connect, listen and probe, for ever."""
        while True:
            try:
                connection = await server.connect()
            except AioqError as exc:
                _log.debug("not listening for hints, polling instead: %s", exc)
            else:
                try:
                    await self._hear(connection, channel, server.patience)
                except (
                    OSError,
                    TimeoutError,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                ) as exc:
                    _log.debug("no longer listening for hints: %s", exc)
                finally:
                    connection.terminate()
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(self._pause * 2, _BACK_OFF[1])

    async def _hear(self, connection: Connection, channel: str, patience: float) -> None:
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _: gone.set())
        async with asyncio.timeout(patience):
            await connection.add_listener(channel, self._take)
        self._pause = _BACK_OFF[0]
        # What was rung before went unheard.
        self._note(None)
        while True:
            try:
                async with asyncio.timeout(PROBE_EVERY * random.uniform(0.8, 1.0)):
                    await gone.wait()
            except TimeoutError:
                late = asyncio.get_running_loop().call_later(patience, connection.terminate)
                try:
                    await connection.execute("select 1")
                finally:
                    late.cancel()
            else:
                return

    def _take(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        news = read_news(str(payload))
        self.cancels.extend(news.cancelled)
        if self.cancels:
            self.heard.set()
        if news.queues is None:
            self._note(None)
        else:
            self.ring(news.queues)

    def ring(self, queues: Iterable[str]) -> None:
        """There is work in these queues."""
        for queue in queues:
            if queue in self._queues:
                self._note(queue)

    def _note(self, queue: str | None) -> None:
        self.work[queue] = None
        self.heard.set()


async def listen(
    server: Server | None,
    schema: str,
    worker: WorkerInfo,
    free: Callable[[], int],
    ears: set[Ear],
) -> AsyncIterator[Hint]:
    """As ``BaseBroker.hints``; ``server`` is where to listen, ``ears`` those that upkeep rings."""
    ear = Ear(frozenset(worker.queues))
    ears.add(ear)
    hearing = None
    if server is not None:
        hearing = asyncio.ensure_future(ear.run(server, channel_of(schema)))
    try:
        while True:
            try:
                async with asyncio.timeout(POLL * random.uniform(0.8, 1.0)):
                    await ear.heard.wait()
            except TimeoutError:
                ear.work[None] = None
            ear.heard.clear()
            while ear.cancels:
                yield Hint(cancel=ear.cancels.popleft())
            work, ear.work = ear.work, {}
            if free() > 0:
                for queue in work:
                    yield Hint(queue)
    finally:
        ears.discard(ear)
        if hearing is not None:
            hearing.cancel()
