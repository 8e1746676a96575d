"""A loop that no failure ends: it backs off, says once what is wrong, and says when it is over."""

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from aioq._loop import stray_cancel
from aioq.worker._health import Health
from aioq.worker._trouble import Trouble

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
    """Repeat ``step`` until ``stopping`` is set."""
    trouble = Trouble(name, health, log)
    pause = 0.0
    while not stopping.is_set():
        try:
            rest = await step()
        except BaseException as exc:
            if not (isinstance(exc, Exception) or stray_cancel(exc)):
                raise
            trouble.met(exc)
        else:
            health.ok(name)
            if pause:
                trouble.over()
                pause = 0.0
            # a store in memory answers without ever yielding
            await (anyio.lowlevel.checkpoint() if rest is None else rest())
            continue
        pause = min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE)
        with anyio.move_on_after(pause * random.uniform(0.5, 1.0)):
            await stopping.wait()
