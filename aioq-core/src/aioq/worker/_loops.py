"""A loop that no failure ends: it backs off, says once what is wrong, and says when it is over."""

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from aioq.errors import BrokerUnavailable
from aioq.worker._health import Health

__all__ = ["Rest", "Step", "run_loop"]

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

Rest: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until there is something to do again."""
Step: TypeAlias = Callable[[], Awaitable[Rest | None]]
"""One round of work; it returns how to wait for the next, or None to go on at once."""


async def run_loop(
    name: str, step: Step, *, stopping: anyio.Event, health: Health, log: Any
) -> None:
    """Repeat ``step`` until ``stopping`` is set.

    A store that is out of reach is reported once, any other error each time.
    """
    pause = 0.0
    while not stopping.is_set():
        try:
            rest = await step()
        except BrokerUnavailable as exc:
            health.failed(name, str(exc))
            if not pause:
                log.warning("broker.unavailable", loop=name, reason=str(exc))
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            health.failed(name, reason)
            log.error("worker.error", loop=name, reason=reason, exc_info=True)
        else:
            health.ok(name)
            if pause:
                log.info("broker.back", loop=name)
                pause = 0.0
            # a store in memory answers without ever yielding
            await (anyio.lowlevel.checkpoint() if rest is None else rest())
            continue
        pause = min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE)
        with anyio.move_on_after(pause * random.uniform(0.5, 1.0)):
            await stopping.wait()
