"""A worker process as one of several: it reports to its parent, and stops when that is gone."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from aioq._loop import call_soon, current_loop
from aioq.cli._reporting import reporting
from aioq.worker import Worker
from aioq.worker._health import HealthReport
from aioq.worker._signals import listen

__all__ = ["PARENT", "Parent", "run_as_child"]

PARENT = "_AIOQ_PARENT"
"""The environment variable that holds the file descriptor of the line to the parent."""
REPORT_EVERY = 0.5


class Parent:
    """The supervising process, at the other end of a socket that closes with it."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self.gone: Callable[[], object] = self._leave
        """What to do when the parent has died."""
        threading.Thread(target=self._watch, name="aioq-parent", daemon=True).start()

    @classmethod
    def from_environment(cls) -> "Parent | None":
        """None for a process that nobody supervises. The variable is taken out of the environment:
        it is not meant for the processes that tasks start."""
        descriptor = os.environ.pop(PARENT, None)
        return cls(int(descriptor)) if descriptor else None

    def tell(self, message: dict[str, Any]) -> None:
        """One message; when the parent is gone ``gone`` is what happens."""
        with suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _watch(self) -> None:
        with suppress(OSError):  # an error means the same
            self._socket.recv(1)
        self.gone()

    @staticmethod
    def _leave() -> None:
        """Nothing has been claimed yet: there is nothing to give back."""
        os._exit(1)


async def run_as_child(worker: Worker, parent: Parent) -> None:
    """Run the worker until SIGTERM, or until the parent is gone.

    A repeated SIGTERM changes nothing: systemd sends it to every process of a service, and so does
    the parent. Ctrl-C reaches the parent, too, which then sends SIGTERM. To force a child the
    parent kills it.
    """
    loop = current_loop()
    listen(loop, signal.SIGTERM, lambda _: worker.stop("SIGTERM"))
    listen(loop, signal.SIGINT, lambda _: None)
    parent.gone = lambda: call_soon(loop, worker.stop, "its parent process is gone")

    def tell(report: HealthReport) -> None:
        parent.tell({"health": asdict(report), "running": worker.describe().running})

    try:
        with reporting(worker, tell, REPORT_EVERY):
            await worker.run()
    finally:
        parent.gone = _nothing


def _nothing() -> None:
    """What a signal, or the parent's end, is answered with when all is under way already."""
