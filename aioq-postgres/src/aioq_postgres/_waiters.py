"""Waiting for jobs to finish: one query at a time asks for all that are waited for."""

import asyncio
from copy import copy
from functools import partial
from typing import Final
from uuid import UUID

from aioq.errors import AioqError, BrokerUnavailable
from aioq_postgres._look import ended
from aioq_postgres._pool import Pool
from aioq_postgres._sql import Texts

__all__ = ["Waiters"]

PAUSES: Final = (0.005, 0.5)
"""Seconds between two questions: at first, and after a long wait."""


class Waiters:
    """Those who wait in one event loop.

    Args:
        pool: connections to ask on.
        texts: SQL of the broker.
        patience: seconds for one question.
    """

    def __init__(self, pool: Pool, texts: Texts, patience: float) -> None:
        self._pool = pool
        self._texts = texts
        self._patience = patience
        self._waiting: dict[UUID, set[asyncio.Future[None]]] = {}
        self._pause = PAUSES[0]
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def ended(self, job_id: UUID) -> None:
        """Return when the job is not live (any more).

        Raises:
            BrokerUnavailable: the store is out of reach.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(future)
        self._pause = PAUSES[0]
        self._more.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
        try:
            await future
        finally:
            others = self._waiting.get(job_id, set())
            others.discard(future)
            if not others:
                self._waiting.pop(job_id, None)

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._more.clear()
                operation = partial(ended, texts=self._texts, ids=list(self._waiting))
                for job_id in await self._pool.call(operation, self._patience):
                    for future in self._waiting.pop(job_id, set()):
                        if not future.done():
                            future.set_result(None)
                await self._rest()
        except Exception as exc:
            self._fail(exc)
        finally:
            self._task = None

    async def _rest(self) -> None:
        """A pause that grows; a new waiter ends it."""
        pause = self._pause
        self._pause = min(pause * 1.3, PAUSES[1])
        try:
            async with asyncio.timeout(pause):
                await self._more.wait()
        except TimeoutError:
            return

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for futures in waiting.values():
            for future in futures:
                if not future.done():
                    # each has a traceback of its own
                    future.set_exception(copy(error) if isinstance(error, AioqError) else error)

    def close(self) -> None:
        """Let nobody wait for what will never be asked again."""
        if self._task is not None:
            self._task.cancel()
        self._fail(BrokerUnavailable("the broker has been closed; open it again to use it"))
