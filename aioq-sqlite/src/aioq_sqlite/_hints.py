"""A worker's ear: doorbells and the slow poll, as hints."""

from collections.abc import AsyncIterator, Callable

import anyio

from aioq.errors import BrokerUnavailable
from aioq.plugins import Hint, WorkerInfo
from aioq_sqlite._bells import Bells
from aioq_sqlite._reader import Reader

__all__ = ["listen"]


async def listen(
    bells: Bells, reader: Reader, worker: WorkerInfo, free: Callable[[], int]
) -> AsyncIterator[Hint]:
    """As ``BaseBroker.hints``; ends when the broker is closed."""
    try:
        bell = bells.hang(worker.id)
    except OSError as exc:
        raise BrokerUnavailable(f"no doorbell can be made for worker {worker.id}: {exc}") from exc
    try:
        reader.listen(bell.nudge)
        if free() > 0:
            bell.show_room(worker.queues)
        while True:
            await anyio.wait_readable(bell.socket)
            ring = bell.read()
            for token in ring.cancels:
                yield Hint(cancel=token)
            if ring.closed:
                return
            if free() <= 0:
                # It was idle when it was chosen: let another one have it.
                bells.ring(ring.queues)
            elif ring.queues or ring.poll:
                (queue,) = ring.queues if len(ring.queues) == 1 else (None,)
                yield Hint(queue)
                if free() > 0:
                    bell.show_room(worker.queues)
    finally:
        reader.leave(bell.nudge)
        bells.take_down(worker.id, bell)
