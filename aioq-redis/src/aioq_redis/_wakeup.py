"""Telling a worker that there is work, or that it shall stop a job, without polling.

Enqueue, retry and rescue set a marker in the queue. A worker that has room, and whose last claim
did not fill it, blocks on the marker; taking it wakes this worker alone, and its claim sets the
marker again when more is ready. So wake-ups go exactly as far as there is work. A full worker does
not block: it would take another's wake-up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from aioq.errors import BrokerUnavailable
from aioq.plugins import Hint, WorkerInfo
from aioq_redis._errors import translate, translated
from aioq_redis._link import pack
from aioq_redis._listener import Listener
from aioq_redis._packing import pack_id, worker_of
from aioq_redis._store import Store

__all__ = ["Appetites", "wake_ups"]

_BLOCK = 4.0
"""Seconds a worker blocks at most; with the deadline on top, a dead connection is noticed in 10."""

_AGAIN = 1.0
"""Seconds after which a server that was away is asked again."""
_News = asyncio.Queue[Hint | Exception]


class Appetites:
    """Which workers could have taken more than their last claim found."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def of(self, worker_id: str) -> asyncio.Event:
        """Set while the worker may wait for work; a new worker may."""
        event = self._events.get(worker_id)
        if event is None:
            event = self._events[worker_id] = asyncio.Event()
            event.set()
        return event

    def claimed(self, worker_id: str, filled: bool) -> None:
        """A claim has filled the worker, or not."""
        event = self._events.get(worker_id)
        if event is not None:
            event.clear() if filled else event.set()

    def forget(self, worker_id: str) -> None:
        """The worker waits for nothing any more."""
        self._events.pop(worker_id, None)


async def wake_ups(
    store: Store, appetites: Appetites, worker: WorkerInfo, free: Callable[[], int], where: str
) -> AsyncIterator[Hint]:
    """As ``BaseBroker.hints``; raises ``BrokerUnavailable`` when a connection is lost."""
    news: _News = asyncio.Queue()
    hungry = appetites.of(worker.id)
    groups = store.groups(worker.queues)
    work = [partial(_await_work, store, queues, hungry, free, news, where) for queues in groups]
    # One server of several may be away: polls suffice for its queues, all else goes on.
    rings = [_lasting(duty) for duty in work] if len(work) > 1 else [duty() for duty in work]
    duties = [*rings, _await_cancels(store, worker, news, where)]
    tasks = [asyncio.create_task(_reporting(duty, news)) for duty in duties]
    try:
        while True:
            hint = await news.get()
            if isinstance(hint, Exception):
                raise hint
            yield hint
    finally:
        appetites.forget(worker.id)
        for task in tasks:
            task.cancel()


async def _reporting(duty: Coroutine[Any, Any, None], news: _News) -> None:
    """Whatever ends a duty is raised where the hints are read."""
    try:
        await duty
    except Exception as exc:
        news.put_nowait(exc)


async def _lasting(duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it again when the server is lost."""
    while True:
        try:
            await duty()
        except BrokerUnavailable:
            await asyncio.sleep(_AGAIN)


async def _await_work(
    store: Store,
    queues: Sequence[str],
    hungry: asyncio.Event,
    free: Callable[[], int],
    news: _News,
    where: str,
) -> None:
    markers = {store.keys.of(queue, "w"): queue for queue in queues}
    wait = pack((b"BZPOPMIN", *markers, _BLOCK))
    link = await store.link(queues[0])
    try:
        while True:
            await hungry.wait()
            if free() <= 0:
                # Full by other means; its next claim tells when that is over.
                hungry.clear()
                continue
            with translated(where):
                (taken,) = await link.call(wait, 1, _BLOCK + store.within)
            if isinstance(taken, RedisError):
                store.doubt()
                raise translate(taken, where)
            if taken is None:
                continue
            hungry.clear()
            queue = markers[taken[0]]
            if free() > 0:
                news.put_nowait(Hint(queue))
            else:
                await store.command(queue, b"ZADD", taken[0], 0, b"r")
    finally:
        await link.close()


async def _await_cancels(store: Store, worker: WorkerInfo, news: _News, where: str) -> None:
    own = pack_id(worker.id)
    channels = {store.keys.of(queue, "cancel"): queue for queue in worker.queues}
    listener = Listener(await store.link_to_any(), where, store.within)
    try:
        await listener.subscribe(list(channels))
        while True:
            message = await listener.next()
            if message is not None and worker_of(message.data) == own:
                tail = channels[message.channel].encode()
                news.put_nowait(Hint(cancel=message.data + tail))
    finally:
        await listener.close()
