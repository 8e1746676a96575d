"""Jobs, brokers on a fresh file, and other processes that use the same one."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from aioq.plugins import Added, Delivery, NewJob, Settlement
from aioq_sqlite import SQLiteBroker

PROCESS = Path(__file__).with_name("process.py")
STRICT = ["-W", "error", "-W", "ignore:Binding:DeprecationWarning"]
"""Python 3.12.0 to 3.12.3 take SQL's numbered placeholders for named ones (gh-117995)."""


class Hand:
    """A broker in the hands of a test: a producer and a worker."""

    def __init__(self, broker: SQLiteBroker) -> None:
        self.broker = broker
        self.worker = str(uuid4())
        self._producer = os.urandom(8)
        self._numbers: Counter[str] = Counter()

    async def add(self, count: int = 1, *, queue: str = "q", **fields: Any) -> list[NewJob]:
        jobs = [
            NewJob(
                **{
                    "id": str(uuid4()),
                    "task": "t",
                    "policy": b"p",
                    "body": b"b",
                    **fields,
                    "queue": queue,
                }
            )
            for _ in range(count)
        ]
        answers = await self.send(jobs)
        assert {answer.status for answer in answers} == {"new"}
        return jobs

    async def send(self, jobs: Sequence[NewJob]) -> Sequence[Added]:
        queues = {job.queue for job in jobs}
        self._numbers.update(queues)
        numbers = {queue: self._numbers[queue] for queue in queues}
        return await self.broker.enqueue(jobs, producer=self._producer, numbers=numbers)

    async def take(self, limit: int = 100, queue: str = "q") -> Sequence[Delivery]:
        claimed = await self.broker.claim([queue], limit, worker=self.worker, lease_ms=30_000)
        return claimed.jobs

    async def complete(self, jobs: Sequence[Delivery], **fields: Any) -> None:
        answers = await self.broker.settle(
            [Settlement(job.token, "completed", **fields) for job in jobs]
        )
        assert set(answers) <= {"accepted"}


@pytest.fixture
def path() -> Iterator[Path]:
    """A database whose bells are Unix sockets: pytest's own folders may be too deep for one."""
    with tempfile.TemporaryDirectory(prefix="aioq-") as folder:
        yield Path(folder) / "aioq.db"


@pytest.fixture
async def broker(path: Path) -> AsyncIterator[SQLiteBroker]:
    async with SQLiteBroker(path, synchronous="NORMAL") as broker:
        yield broker


@pytest.fixture
def hand(broker: SQLiteBroker) -> Hand:
    return Hand(broker)


@pytest.fixture
def make_hand() -> type[Hand]:
    return Hand


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """``start("role", ...)`` runs a role of process.py on the same file."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *STRICT, str(PROCESS), str(path), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def read_all() -> Callable[["subprocess.Popen[str]"], Any]:
    """Wait for a process, without blocking the loop, and give its lines; it must exit with 0."""

    async def read_all(process: "subprocess.Popen[str]") -> list[str]:
        out, _ = await asyncio.to_thread(process.communicate, None, 60)
        assert process.returncode == 0
        return out.splitlines()

    return read_all
