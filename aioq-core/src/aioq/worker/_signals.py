"""SIGTERM and SIGINT: the first asks for a graceful stop, the second leaves at once."""

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from aioq._loop import Loop, call_soon, current_loop

__all__ = ["listen", "stop_on_signals"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(
    stop: Callable[[str], object], leave: Callable[[int], object] = os._exit
) -> Generator[None, None, None]:
    """Call ``stop`` with the first signal's name, and ``leave`` with the exit code at the second.

    The handlers found are put back at the end.
    """
    loop = current_loop()
    seen: list[int] = []

    def received(number: int) -> None:
        if seen:
            leave(128 + number)
        seen.append(number)
        stop(signal.Signals(number).name)

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
