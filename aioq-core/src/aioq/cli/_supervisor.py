"""``aioq worker --processes`` and ``--reload``: starts worker processes, and keeps them running."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from typing import Any

from aioq._clock import monotonic
from aioq._log import Logger, get_logger
from aioq.cli._process import Process
from aioq.cli._reload import changes
from aioq.cli._systemd import Notifier
from aioq.errors import ConfigurationError
from aioq.worker import WorkerOptions
from aioq.worker._health import HealthReport, HealthStatus
from aioq.worker._signals import SECOND_SIGNAL, stop_on_signals

__all__ = ["Supervisor"]

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
LONG_LIFE = 30.0
"""Seconds after which a process that dies is no longer taken for one that fails at its start."""
MOST_STARTS = 5
KILL_AFTER = 3.0
"""Seconds beyond the shutdown timeout: with its default still under Kubernetes' 30."""
LOOK_EVERY = 0.25


class _Slot:
    """A place for one process, filled again and again."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.failures = 0
        """Processes in a row that died young."""
        self.starts = 0
        self.done = False

    def delay(self) -> float:
        """How long to wait before the next start, in seconds."""
        if self.failures <= 1:
            return FIRST_DELAY
        return min(0.5 * 2.0 ** (self.failures - 2), LONGEST_DELAY)

    def report(self) -> dict[str, Any]:
        process: dict[str, Any] = {"status": "restarting"}
        if self.process is not None:
            process = self.process.report()
        return {"restarts": max(0, self.starts - 1), **process}


class Supervisor:
    """Keeps ``processes`` workers running until it is told to stop.

    It imports nothing of the user's. Its children stop gracefully when it dies.

    Args:
        command: starts one worker.
        options: those of the workers; health port, burst and times are the parent's business.
        processes: how many to keep.
        reload: start them anew whenever a Python file below this folder changes; a worker that
            cannot start then waits for the next change.
    """

    def __init__(
        self,
        command: Sequence[str],
        options: WorkerOptions,
        *,
        processes: int = 1,
        reload: Path | None = None,
    ) -> None:
        self._command = command
        self._options = options
        self._reload = reload
        self._slots = [_Slot() for _ in range(processes)]
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._grace = options.shutdown_timeout + KILL_AFTER
        self._stall_limit = inf if options.stall_limit is None else options.stall_limit
        self._proven = False
        """A process has been up: the app and its options are sound."""
        self._begun = False
        """All have been up at the same time."""
        self._failure: str | None = None
        self._killed = False
        self._systemd = Notifier.from_environment()
        self._log: Logger = get_logger()

    async def run(self) -> int:
        """Supervise until SIGTERM or SIGINT, or until every burst worker has left.

        Returns:
            The exit code: 0, or 1 when a worker had to be killed because it did not stop.

        Raises:
            ConfigurationError: a worker cannot start, or the health port cannot be opened.
        """
        with ExitStack() as stack:
            stack.enter_context(stop_on_signals(self._stop, self._force))
            served: dict[str, int] = {}
            if self._options.health_port is not None:
                from aioq.worker._health_server import HealthServer

                host, port = self._options.health_host, self._options.health_port
                server = HealthServer(self.report, host, port)
                stack.callback(server.close)
                served["health_port"] = server.port
            self._log.info(
                "worker.supervising", processes=len(self._slots), pid=os.getpid(), **served
            )
            looking = asyncio.create_task(self._look_after())
            async with asyncio.TaskGroup() as group:
                if self._reload is not None:
                    # first, so that no change after a process has read the code is missed
                    group.create_task(self._watch(self._reload))
                for slot in self._slots:
                    group.create_task(self._keep(slot))
            looking.cancel()
        if self._failure is not None:
            raise ConfigurationError(self._failure)
        self._log.info("worker.stopped", pid=os.getpid())
        return 1 if self._killed else 0

    def report(self) -> HealthReport:
        """How all of them stand; asked from the health port's threads."""
        slots = [slot for slot in self._slots if not slot.done]
        details = {"processes": [slot.report() for slot in slots]}
        status: HealthStatus
        if self._stopping.is_set():
            status = "stopping"
        elif all(slot.process is not None and slot.process.ready for slot in slots):
            status = "ok"
        else:
            status = "failing" if self._begun else "starting"
        return HealthReport(status, True, details)

    # -- a process's life --------------------------------------------------------------------------

    async def _keep(self, slot: _Slot) -> None:
        """Fill the slot until the stop, or until a burst worker has left it."""
        while not self._stopping.is_set():
            changed = self._changed
            slot.starts += 1
            try:
                process = slot.process = await Process.start(self._command)
            except OSError as exc:
                self._log.error("worker.process_failed", reason=f"it cannot be started: {exc}")
                slot.failures += 1
                await self._pause(slot.delay())
                continue
            self._log.info("worker.process_started", pid=process.pid)
            if self._stopping.is_set():
                self._end(process)
            code = await process.wait()
            slot.process = None
            self._proven = self._proven or process.was_ready
            if self._stopping.is_set():
                return
            if code == 0 and self._options.burst:
                slot.done = True
                return
            if not process.leaving:
                await self._again(slot, process, code, changed)

    async def _again(
        self, slot: _Slot, process: Process, code: int, changed: asyncio.Event
    ) -> None:
        """What follows when a process has ended by itself."""
        young = monotonic() - process.began < LONG_LIFE
        slot.failures = slot.failures + 1 if young else 1
        reason = process.failure or _ending(code)
        if self._reload is not None and code > 0 and not process.was_ready:
            self._log.error(
                "worker.process_failed", reason=reason, hint="it starts again at the next change"
            )
            await self._either(changed)
        elif not self._proven and (code > 0 or slot.failures >= MOST_STARTS):
            self._failure = process.failure or f"a worker process could not start: {reason}"
            self._stop("a worker cannot start")
        else:
            delay = slot.delay()
            self._log.warning(
                "worker.process_ended", pid=process.pid, reason=reason, restart_in=delay
            )
            await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond the stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _either(self, event: asyncio.Event) -> None:
        """Wait for ``event`` or the stop."""
        waiting = [asyncio.create_task(each.wait()) for each in (event, self._stopping)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    # -- what goes on beside ---------------------------------------------------------------------

    def _processes(self) -> list[Process]:
        return [slot.process for slot in self._slots if slot.process is not None]

    async def _look_after(self) -> None:
        """Kill what nothing else helps; tell systemd."""
        while True:
            for process in self._processes():
                if process.hopeless(self._stall_limit):
                    self._kill(process, "its event loop, or all of it, stands still")
            self._tell_systemd()
            await asyncio.sleep(LOOK_EVERY)

    def _tell_systemd(self) -> None:
        report = self.report()
        self._proven = self._proven or any(process.was_ready for process in self._processes())
        self._begun = self._begun or report.ready
        if self._systemd is not None:
            running = sum(process.running for process in self._processes())
            ready = sum(process.ready for process in self._processes())
            self._systemd.update(
                report,
                f"{report.status}: {ready} of {len(self._slots)} processes ready, "
                f"{running} jobs running",
            )

    async def _watch(self, folder: Path) -> None:
        try:
            async for files in changes(folder, self._stopping):
                self._log.info("worker.reloading", files=files)
                self._changed.set()
                self._changed = asyncio.Event()
                for process in self._processes():
                    self._end(process)
        except ConfigurationError as exc:
            self._failure = str(exc)
            self._stop("files cannot be watched")

    # -- the end -----------------------------------------------------------------------------------

    def _end(self, process: Process) -> None:
        """A graceful stop that ends in any case."""
        process.stop()
        asyncio.get_running_loop().call_later(self._grace, self._kill_late, process)

    def _kill_late(self, process: Process) -> None:
        if process in self._processes():
            self._killed = self._killed or self._stopping.is_set()
            self._kill(process, f"it did not stop within {self._grace:g} s")

    def _kill(self, process: Process, reason: str) -> None:
        self._log.error("worker.process_killed", pid=process.pid, reason=reason)
        process.kill()

    def _stop(self, reason: str) -> None:
        if not self._stopping.is_set():
            told: dict[str, Any] = {"running": sum(each.running for each in self._processes())}
            if told["running"]:
                told |= {"waits": self._options.shutdown_timeout, "hint": SECOND_SIGNAL}
            self._log.info("worker.stopping", reason=reason, pid=os.getpid(), **told)
            self._stopping.set()
            for process in self._processes():
                self._end(process)
            self._tell_systemd()

    def _force(self, code: int) -> None:
        for process in self._processes():
            process.kill()
        os._exit(code)


def _ending(code: int) -> str:
    if code >= 0:
        return f"it left with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
