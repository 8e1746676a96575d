"""A loop that no failure ends: it backs off, says once what is wrong, and says when it is over."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from aioq.errors import BrokerUnavailable
from aioq.worker._health import Health

__all__ = ["run_loop"]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


async def run_loop(
    name: str,
    step: Callable[[], Awaitable[None]],
    *,
    stopping: anyio.Event,
    health: Health,
    log: Any,
) -> None:
    """Repeat ``step`` until ``stopping`` is set; it waits by itself where it has nothing to do.

    A store that is out of reach is reported once, any other error each time.
    """
    pause = 0.0
    while not stopping.is_set():
        try:
            await step()
        except BrokerUnavailable as exc:
            if not pause:
                log.warning("broker.unavailable", loop=name, reason=str(exc))
        except Exception as exc:
            log.error(
                "worker.error", loop=name, reason=f"{type(exc).__name__}: {exc}", exc_info=True
            )
        else:
            health.ok(name)
            await anyio.lowlevel.checkpoint()  # a store in memory answers without ever yielding
            if pause:
                log.info("broker.back", loop=name)
                pause = 0.0
            continue
        health.failed(name)
        pause = min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE)
        with anyio.move_on_after(pause * random.uniform(0.5, 1.0)):
            await stopping.wait()
