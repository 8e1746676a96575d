"""Waiting for jobs to finish: one subscription for all that wait, and a slow poll behind it."""

import asyncio
import secrets
from collections.abc import Sequence
from copy import copy
from time import monotonic
from typing import TypeAlias

from aioq.errors import AioqError, BrokerUnavailable
from aioq.plugins import FINISHED, MAX_BATCH, JobInfo
from aioq_redis._listener import Listener
from aioq_redis._look import Finder
from aioq_redis._packing import unpack_id
from aioq_redis._store import Store

__all__ = ["Waiting"]

_POLL = 2.0
_LINGER = 10.0
"""Seconds a subscription is kept when nobody waits, for the next one who does."""

_Future: TypeAlias = "asyncio.Future[JobInfo | None]"


class Waiting:
    """All who wait in one event loop.

    Args:
        store: the connections.
        finder: looks up jobs by id.
        where: names the store.
    """

    def __init__(self, store: Store, finder: Finder, where: str) -> None:
        self._store = store
        self._finder = finder
        self._where = where
        self._channel = store.keys.replies(secrets.token_hex(8))
        self._waiting: dict[str, list[_Future]] = {}
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def finished(self, job_id: str) -> JobInfo | None:
        """As ``BaseBroker.wait_finished``."""
        future: _Future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, []).append(future)
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="aioq.redis.wait")
            await self._until_listening(future)
            if not future.done():
                await self._check([job_id])
            return await future
        finally:
            self._forget(job_id, future)

    async def close(self) -> None:
        """Everybody who waits is told that the broker is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            # a task that was cancelled before it began has said nothing
            self._ended(self._closed())

    async def _until_listening(self, future: _Future) -> None:
        """What is not heard of yet cannot be missed; it may fail, and then the future knows."""
        if not self._listening.is_set():
            listening = asyncio.create_task(self._listening.wait())
            try:
                await asyncio.wait((listening, future), return_when=asyncio.FIRST_COMPLETED)
            finally:
                listening.cancel()

    def _forget(self, job_id: str, future: _Future) -> None:
        future.cancel()
        futures = self._waiting.get(job_id, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(job_id, None)

    async def _run(self) -> None:
        failure: AioqError = self._closed()
        try:
            listener = Listener(await self._store.link_to_any(), self._where, self._store.within)
            try:
                await listener.subscribe([self._channel])
                self._listening.set()
                await self._listen(listener)
            finally:
                await listener.close()
        except AioqError as exc:
            failure = exc
        finally:
            self._ended(failure)

    def _closed(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self._where}: the broker was closed")

    def _ended(self, failure: AioqError) -> None:
        """Nobody listens any more: whoever still waits is told why."""
        self._listening.clear()
        self._task = None
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(copy(failure))  # each has its own traceback

    async def _listen(self, listener: Listener) -> None:
        polled = needed = monotonic()
        while self._waiting or monotonic() - needed < _LINGER:
            message = await listener.next(_POLL)
            if message is not None:
                raw = message.data
                ids = [unpack_id(raw[at : at + 16]) for at in range(0, len(raw), 16)]
                await self._resolve([job_id for job_id in ids if job_id in self._waiting])
            if monotonic() - polled >= _POLL:
                await self._check(list(self._waiting))
                polled = monotonic()
            if self._waiting:
                needed = monotonic()

    async def _check(self, job_ids: Sequence[str]) -> None:
        """Ask again to be told, then look: in this order nothing is missed."""
        for start in range(0, len(job_ids), MAX_BATCH):
            batch = job_ids[start : start + MAX_BATCH]
            self._hand_out(batch, await self._finder.watch(batch, self._channel))

    async def _resolve(self, job_ids: Sequence[str]) -> None:
        for start in range(0, len(job_ids), MAX_BATCH):
            batch = job_ids[start : start + MAX_BATCH]
            self._hand_out(batch, await self._finder.get(batch))

    def _hand_out(self, job_ids: Sequence[str], found: Sequence[JobInfo | None]) -> None:
        for job_id, info in zip(job_ids, found, strict=True):
            if info is None or info.status in FINISHED:
                for future in self._waiting.get(job_id, ()):
                    if not future.done():
                        future.set_result(info)
