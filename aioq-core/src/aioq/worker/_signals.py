"""SIGTERM and SIGINT: the first asks for a graceful stop, a later one leaves at once."""

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from aioq._clock import monotonic
from aioq._loop import Loop, call_soon, current_loop

__all__ = ["SECOND_SIGNAL", "listen", "stop_on_signals"]

SECOND_SIGNAL = "a second signal leaves at once"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOGETHER = 0.5
"""Seconds: signals that come so close are one wish. ``timeout`` signals the process and its group,
and other runners answer Ctrl-C, which the worker hears as well, with a SIGTERM of their own."""


@contextmanager
def stop_on_signals(
    stop: Callable[[str], object], leave: Callable[[int], object] = os._exit
) -> Generator[None, None, None]:
    """Call ``stop`` with the first signal's name, and ``leave`` with the exit code at a later one.

    What comes within half a second of the first changes nothing.
    The handlers found are put back at the end.
    """
    loop = current_loop()
    first: float | None = None

    def received(number: int) -> None:
        nonlocal first
        now = monotonic()
        if first is None:
            first = now
            stop(signal.Signals(number).name)
        elif now - first >= TOGETHER:
            leave(128 + number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        listen(loop, number, received)
    try:
        yield
    finally:
        for number, handler in before.items():
            if isinstance(loop, asyncio.AbstractEventLoop):
                with suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
            signal.signal(number, handler)


def listen(loop: Loop, number: signal.Signals, received: Callable[[int], object]) -> None:
    """Call ``received`` in ``loop`` with the number of each such signal."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, received, number)
            return
    # trio and Windows have no handlers on the loop; a plain one wakes it up
    signal.signal(number, lambda n, _: call_soon(loop, received, n))
