"""What keeps the store tidy, and the worker in its registry."""

import random
from collections.abc import Callable
from functools import partial

import anyio

from aioq._broker import BaseBroker
from aioq._records import WorkerInfo
from aioq.worker._loops import Rest
from aioq.worker._options import WorkerOptions

__all__ = ["Beat", "UpkeepLoop"]

LONGEST_INTERVAL = 2.0
BEAT_INTERVAL = 10.0


class UpkeepLoop:
    """Promotes, rescues and trims at least every two seconds, and five times per lease: the store
    takes a silence of half a lease for an outage."""

    def __init__(self, broker: BaseBroker, queues: tuple[str, ...], options: WorkerOptions) -> None:
        self._broker = broker
        self._queues = queues
        self._lease_ms = int(options.lease * 1000)
        self.interval = min(LONGEST_INTERVAL, options.lease / 5)

    async def step(self) -> Rest | None:
        """One round; the next follows at once while there is more to do."""
        done = await self._broker.upkeep(self._queues, lease_ms=self._lease_ms)
        if done.more:
            return None
        return partial(anyio.sleep, self.interval * random.uniform(0.8, 1.0))


class Beat:
    """Keeps the worker's entry in the registry fresh."""

    def __init__(self, broker: BaseBroker, describe: Callable[[], WorkerInfo]) -> None:
        self._broker = broker
        self._describe = describe

    async def step(self) -> Rest:
        await self._broker.beat(self._describe())
        return partial(anyio.sleep, BEAT_INTERVAL)
