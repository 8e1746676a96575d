"""Handing over what is collected, before the worker's process may be gone."""

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

import anyio

from aioq.plugins import call_soon, current_loop

__all__ = ["flush"]

LONGEST: Final = 1.0
"""Seconds; ``--processes`` gives a worker that has cut off its last jobs about 3 to leave."""

_log = logging.getLogger("aioq.otel")


async def flush(providers: Sequence[Any]) -> None:
    """Ask those that can to export what they hold, and wait for it a limited time.

    The SDK does so at the end of the interpreter, but not when a worker leaves in a hurry.
    """
    flushes = [getattr(provider, "force_flush", None) for provider in providers]
    wanted = [flush for flush in flushes if flush is not None]
    if not wanted:
        return
    loop, done = current_loop(), anyio.Event()

    def run() -> None:
        for each in wanted:
            try:
                each(int(LONGEST * 1000))
            except Exception as exc:
                _log.warning("what was collected could not be exported: %s", exc)
        call_soon(loop, done.set)

    threading.Thread(target=run, name="aioq-otel-flush", daemon=True).start()
    with anyio.move_on_after(LONGEST, shield=True) as scope:
        await done.wait()
    if scope.cancelled_caught:
        _log.warning("not all that was collected could be exported in %g s", LONGEST)
