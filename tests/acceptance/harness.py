"""Real worker processes, what they log, and the journal of what they ran."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil

HERE = Path(__file__).parent
PATIENCE = 0.0 if os.environ.get("AIOQ_TEST_PROMPT") else 60.0
"""Seconds that whatever is awaited may take longer than promised: on a machine that is busy with
other tests a process may stand still for long. ``AIOQ_TEST_PROMPT=1`` on a quiet one takes the
promises at their word."""


def promised(seconds: float) -> float:
    """How long to wait for what is promised within so many seconds."""
    return seconds + PATIENCE


LEASE = 2.0
RESCUE = LEASE + 5.0
"""Within this time the jobs of a dead worker must start again."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    event: str
    job_id: str
    pid: int
    at: float
    attempt: int


class Journal:
    """What really ran, written by the tasks themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._entries: list[Entry] = []
        self._counts: dict[str, Counter[str]] = {}
        """Event -> how often by job; kept, because tests ask for it again and again."""

    def entries(self) -> list[Entry]:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                news = file.read()
            # The last line may be on its way: a reader can see half of another process' write.
            news = news[: news.rfind(b"\n") + 1]
            self._read += len(news)
            for line in news.decode().splitlines():
                event, job_id, pid, at, attempt = line.split()
                self._entries.append(Entry(event, job_id, int(pid), float(at), int(attempt)))
                self._counts.setdefault(event, Counter())[job_id] += 1
        return self._entries

    def count(self, event: str) -> Counter[str]:
        self.entries()
        return self._counts.get(event, Counter()).copy()

    def running_in(self, pid: int) -> set[str]:
        """Jobs that the process has started and neither ended nor stopped."""
        running = set[str]()
        for entry in self.entries():
            if entry.pid == pid and entry.event == "start":
                running.add(entry.job_id)
            elif entry.pid == pid:
                running.discard(entry.job_id)
        return running

    def stood_still(self) -> set[int]:
        """Worker processes that did for a while, so that their leases may have run out."""
        return {entry.pid for entry in self.entries() if entry.event == "still"}

    def of(self, job_id: str, event: str = "start") -> list[Entry]:
        return [e for e in self.entries() if e.job_id == job_id and e.event == event]


class WorkerProcess:
    """One ``aioq worker`` with JSON logs in a file."""

    def __init__(self, env: dict[str, str], log: Path, arguments: tuple[str, ...]) -> None:
        self.log = log
        command = [sys.executable, "-m", "aioq", "worker", "jobs_app:app", "--log-format", "json"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=HERE, env=env, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def gone_by(self, number: int) -> bool:
        """Whether it has left; else it is signalled, and again at the next look: what comes soon
        after the first signal does not count."""
        self.process.send_signal(number)
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def children(self) -> list[int]:
        """The processes it has started with ``--processes`` that live, the oldest first."""
        started = [line["pid"] for line in self.logged("worker.process_started")]
        return [pid for pid in started if runs(pid)]

    def wait(self, timeout: float) -> int:
        """The exit code; the process ends within the promised time."""
        return self.process.wait(promised(timeout))

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self._lines() if line.get("event") == event]

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def text(self) -> str:
        return self.log.read_text()


def runs(pid: int) -> bool:
    """Whether a worker of these tests has this id: another process may have got it since."""
    try:
        return "jobs_app:app" in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False


class DidNotStart(Exception):
    """A worker process ended before it served."""


class Fleet:
    """The worker processes of one test; all are killed at its end."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env = env
        self._folder = folder
        self.workers: list[WorkerProcess] = []

    async def start(
        self, *arguments: str, lease: float = LEASE, up: int = 1, clock: int = 0
    ) -> WorkerProcess:
        """Start a worker and wait until it, or each of its ``up`` processes, says it serves.

        Its clock is wrong by so many seconds.

        Raises:
            DidNotStart: it has ended instead.
        """
        log = self._folder / f"worker-{len(self.workers)}.log"
        env = self.env
        if clock:
            path = os.pathsep.join([str(HERE / "wrong_clock"), env["PYTHONPATH"]])
            env = {**env, "PYTHONPATH": path, "AIOQ_TEST_CLOCK": str(clock)}
        worker = WorkerProcess(env, log, ("--lease", str(lease), *arguments))
        self.workers.append(worker)

        def started() -> bool:
            return len(worker.logged("worker.started")) >= up

        await eventually(lambda: started() or worker.process.poll() is not None, 15, worker.text)
        if not started():
            raise DidNotStart(worker.text())
        return worker

    def serving(self) -> list[WorkerProcess]:
        """Workers that have started and run, the oldest first."""
        running = [worker for worker in self.workers if worker.process.poll() is None]
        return [worker for worker in running if worker.logged("worker.started")]

    def lost_leases(self) -> set[str]:
        """Jobs of which a worker said that it had lost its lease, or that another one had it."""
        events = ("job.lease_lost", "job.stale")
        return {
            line["job_id"]
            for worker in self.workers
            for event in events
            for line in worker.logged(event)
        }

    def close(self) -> None:
        for worker in self.workers:
            children = worker.children()
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.kill()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]],
    within: float,
    explain: Callable[[], object] = lambda: "",
) -> float:
    """Wait until another process has made ``holds`` true; how long that took in seconds."""
    started = time.monotonic()
    while time.monotonic() - started < promised(within):
        answer = holds()
        if await answer if isinstance(answer, Awaitable) else answer:
            return time.monotonic() - started
        await anyio.sleep(0.02)
    raise AssertionError(f"it did not happen within {promised(within)} s: {explain()}")
