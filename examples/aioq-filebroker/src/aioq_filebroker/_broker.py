"""The broker: each call reads the file, makes one move, and puts the file back, under a lock."""

import fcntl
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio.to_thread
import msgspec

from aioq import plugins as spi
from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq_filebroker._jobs import Jobs

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 5.0  # seconds to wait for the lock


def step(
    move: Callable[Concatenate[Jobs, int, P], T],
) -> Callable[Concatenate["FileBroker", P], Coroutine[Any, Any, T]]:
    """The method of the contract that makes this move.

    It runs in a thread, whose end a cancelled call awaits: it happens whole or not at all.
    """

    async def call(self: "FileBroker", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(self.change, move, *args, **kwargs))

    return call


class FileBroker(spi.BaseBroker):
    """Keeps jobs in one file, for the processes of one host. Good for some thousand jobs.

    Args:
        url: `file:///jobs.aioq` is in the working directory, `file:////srv/jobs.aioq` is not.
        clock: gives milliseconds since the epoch; None takes the host's clock.
    """

    capabilities = spi.Capabilities(
        server_time=False, cancel=False, requeue=False, find=False, delete=False, pause=False,
        registry=False, trio=True,
    )  # fmt: skip

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None) -> None:
        super().__init__()
        self.path = Path(url.removeprefix("file:///")).absolute()
        self._now = clock or (lambda: time.time_ns() // 1_000_000)

    @property
    def url(self) -> str:
        return f"file:///{self.path}"

    async def exists(self) -> bool:
        return self.path.exists()

    async def open(self) -> None:
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"there is no folder {self.path.parent}: make it first")
        await anyio.to_thread.run_sync(self.change, lambda jobs, now: None)

    async def close(self) -> None:
        """Nothing stays open between two calls."""

    enqueue = step(Jobs.enqueue)
    claim = step(Jobs.claim)
    settle = step(Jobs.settle)
    renew = step(Jobs.renew)
    upkeep = step(Jobs.upkeep)

    def for_lease_thread(self) -> spi.LeaseClient:
        return FileLeaseClient(self)

    async def get(self, job_ids: Sequence[str]) -> Sequence[spi.JobInfo | None]:
        rows = self._read().rows
        return [rows[job_id].info() if job_id in rows else None for job_id in job_ids]

    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[spi.QueueStats]:
        return self._read().counts(self._now(), queues)

    def change(
        self, move: Callable[Concatenate[Jobs, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make a move. The file is replaced whole, so that nobody ever reads half of one."""
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            with self.path.with_name(f"{self.path.name}.lock").open("wb") as lock:
                self._wait_for(lock.fileno())
                jobs = self._read()
                answer = move(jobs, self._now(), *args, **kwargs)
                with new.open("wb") as file:
                    file.write(msgspec.msgpack.encode(jobs))
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(self.path)
                return answer
        except OSError as exc:
            raise BrokerUnavailable(f"{self.path} cannot be changed: {exc}") from exc

    def _wait_for(self, lock: int) -> None:
        """Closing the file, or the death of the process, frees the lock."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.001)

    def _read(self) -> Jobs:
        try:
            return msgspec.msgpack.decode(self.path.read_bytes(), type=Jobs)
        except FileNotFoundError:
            return Jobs()
        except msgspec.MsgspecError as exc:
            raise ConfigurationError(f"{self.path} holds no jobs: choose another file") from exc


class FileLeaseClient(spi.LeaseClient):
    """The same renewal, for the thread that has no event loop."""

    def __init__(self, broker: FileBroker) -> None:
        self._broker = broker

    def renew(self, tokens: Sequence[spi.Token], lease_ms: int) -> spi.Renewed:
        return self._broker.change(Jobs.renew, tokens, lease_ms)

    def close(self) -> None:
        """Nothing stays open between two calls."""
