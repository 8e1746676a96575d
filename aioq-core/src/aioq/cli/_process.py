"""One worker process, as its parent sees it."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from aioq._clock import monotonic
from aioq.cli._child import PARENT
from aioq.worker._health import HealthReport

__all__ = ["Process"]

SILENT_AFTER = 3.0
LAST_WORDS = 0.5
LONGEST_MESSAGE = 1_048_576


class Process:
    """Started by ``start``, followed by ``wait``; it answers for itself by its reports.

    Attributes:
        pid: of the process.
        began: when it was started (monotonic).
        was_ready: it has been up.
        failure: why it could not start, in its own words.
        leaving: it was asked to stop.
        killed: it was not asked any more.
    """

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        """Made by ``start``."""
        self._process = process
        self._line = line
        self._health: HealthReport | None = None
        self._heard = monotonic()
        self.pid = process.pid
        self.began = monotonic()
        self.running = 0
        self.was_ready = False
        self.failure: str | None = None
        self.leaving = False
        self.killed = False

    @classmethod
    async def start(cls, command: Sequence[str]) -> "Process":
        """Start ``command`` with a line to this process that closes when either side dies.

        Raises:
            OSError: the system cannot start another process.
        """
        ours, theirs = socket.socketpair()
        with ExitStack() as stack:
            stack.enter_context(ours)
            with theirs:
                end = theirs.fileno()
                process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=[end], env={**os.environ, PARENT: str(end)}
                )
            stack.pop_all()
        return cls(process, ours)

    async def wait(self) -> int:
        """Read its reports until it ends.

        Returns:
            Its exit code; that of a signal is negative.
        """
        reader, writer = await asyncio.open_connection(sock=self._line, limit=LONGEST_MESSAGE)
        listening = asyncio.create_task(self._listen(reader))
        try:
            code = await self._process.wait()
            # what it has said before it died; a process that it has forked may keep the line open
            await asyncio.wait([listening], timeout=LAST_WORDS)
        finally:
            listening.cancel()
            writer.close()
        return code

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            if not line.endswith(b"\n"):
                return  # it died in the middle of a word
            message: dict[str, Any] = json.loads(line)
            self._heard = monotonic()
            self.failure = message.get("failure", self.failure)
            if "health" in message:
                self._health = HealthReport(**message["health"])
                self.running = message["running"]
                self.was_ready = self.was_ready or self._health.ready

    @property
    def silent_for(self) -> float:
        """Seconds since its last report; 0 before the first."""
        return monotonic() - self._heard if self._health is not None else 0.0

    @property
    def ready(self) -> bool:
        return self._health is not None and self._health.ready and self.silent_for <= SILENT_AFTER

    def hopeless(self, stall_limit: float) -> bool:
        """Whether only a new process helps: it says so itself, or it says nothing any more."""
        if self._health is None or self.leaving or self.killed:
            return False
        return not self._health.alive or self.silent_for > stall_limit

    def report(self) -> dict[str, Any]:
        """Its own words, for the health port."""
        if self._health is None:
            return {"pid": self.pid, "status": "starting"}
        said = self._health.as_dict()
        if self.silent_for > SILENT_AFTER:
            said |= {"status": "silent", "silent_for": round(self.silent_for, 3)}
        return {"pid": self.pid, **said}

    def stop(self) -> None:
        """Ask for a graceful stop."""
        self.leaving = True
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self.killed = True
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
