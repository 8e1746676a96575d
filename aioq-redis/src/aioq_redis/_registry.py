"""The registry of a namespace: which queues there are, and which workers."""

import json
from collections.abc import Sequence
from time import monotonic

from aioq.errors import BrokerError, BrokerUnavailable
from aioq.plugins import WorkerInfo
from aioq_redis._scripts import Scripts
from aioq_redis._store import Store

__all__ = ["Registry"]

_ENTERED_FOR = 60.0
"""Seconds after which a queue's name is written again, should the registry have been lost."""
_REFUSED_FOR = 5.0
"""Seconds after which it is tried again when it was refused."""
_AWAY_FOR = 60.0
"""Seconds for which no queue is entered after the server was out of reach: a silent one holds up
whoever enqueues until the call's deadline."""
_WORKER_TTL_MS = 60_000


class Registry:
    """Names that no queue's own keys could tell; in a cluster it has a server of its own.

    Args:
        store: the connections.
        scripts: what to call.
    """

    def __init__(self, store: Store, scripts: Scripts) -> None:
        self._store = store
        self._scripts = scripts
        self._next: dict[str, float] = {}
        self._away_until = 0.0
        self.known: dict[str, None] = {}
        """Queues that this event loop has met."""

    async def enter(self, queue: str) -> None:
        """Enter a queue, unless that was done a moment ago.

        Only those who list queues need it: that its server is away or full keeps no job from being
        enqueued elsewhere.
        """
        self.known[queue] = None
        now = monotonic()
        if now < max(self._next.get(queue, 0.0), self._away_until):
            return
        self._next[queue] = now + _REFUSED_FOR  # who comes meanwhile does not ask as well
        try:
            await self._store.command(None, b"SADD", self._store.keys.queues, queue)
        except BrokerUnavailable:
            self._away_until = monotonic() + _AWAY_FOR
        except BrokerError:
            return
        else:
            self._next[queue] = now + _ENTERED_FOR

    async def queues(self) -> list[str]:
        """The names of all queues that were ever used."""
        found = await self._store.command(None, b"SMEMBERS", self._store.keys.queues)
        names = sorted(name.decode("utf-8", "replace") for name in found)
        self.known.update(dict.fromkeys(names))
        return names

    async def beat(self, worker: WorkerInfo) -> None:
        """As ``BaseBroker.beat``."""
        description = json.dumps(worker._asdict())
        await self._store.run(self._scripts.beat, None, [worker.id, description])

    async def forget(self, worker_id: str) -> None:
        """As ``BaseBroker.forget``."""
        keys = self._store.keys
        await self._store.command(None, b"HDEL", keys.workers, worker_id)
        await self._store.command(None, b"ZREM", keys.beats, worker_id)

    async def workers(self) -> Sequence[WorkerInfo]:
        """As ``BaseBroker.workers``."""
        reply = await self._store.run(self._scripts.workers, None, [_WORKER_TTL_MS])
        found: list[WorkerInfo] = []
        for ago, description in zip(reply[::2], reply[1::2], strict=True):
            fields = json.loads(description)
            fields |= {"queues": tuple(fields["queues"]), "seen_ago": ago / 1000}
            found.append(WorkerInfo(**fields))
        return found
