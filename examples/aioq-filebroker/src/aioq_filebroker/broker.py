"""The broker: each call reads the file, makes one move, and puts the file back, under a lock."""

import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from filelock import FileLock

from aioq import plugins as spi
from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq_filebroker.jobs import Jobs

T = TypeVar("T")
NO_JOBS = msgspec.msgpack.encode(Jobs())


def step(move: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """A method that makes this move in a thread. A cancelled call awaits the end of it, too."""

    async def call(self: "FileBroker", *args: Any, **kwargs: Any) -> T:
        return await anyio.to_thread.run_sync(lambda: self.change(move, *args, **kwargs))

    return call


class FileBroker(spi.BaseBroker):
    """Keeps some thousand jobs in a file, for the processes of one host."""

    capabilities = spi.Capabilities(
        server_time=False, cancel=False, requeue=False, find=False, delete=False, pause=False,
        registry=False, trio=True,
    )  # fmt: skip

    def __init__(self, url: str, *, clock: Callable[[], int] | None = None) -> None:
        super().__init__()
        # file:///jobs.aioq is in the working directory, file:////srv/jobs.aioq is not
        self.path = Path(url.removeprefix("file:///")).absolute()
        self._now = clock or (lambda: time.time_ns() // 1_000_000)

    @property
    def url(self) -> str:
        return f"file:///{self.path}"

    async def open(self) -> None:
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"there is no folder {self.path.parent}: make it first")
        await self.counts()

    async def close(self) -> None: ...  # nothing stays open between two calls

    enqueue = step(Jobs.enqueue)
    claim = step(Jobs.claim)
    settle = step(Jobs.settle)
    renew = step(Jobs.renew)
    upkeep = step(Jobs.upkeep)
    get = step(Jobs.get)
    counts = step(Jobs.counts)

    def for_lease_thread(self) -> spi.LeaseClient:
        return FileLeaseClient(self)

    def change(self, move: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Make a move. The file is replaced whole: after a crash it is the old one or the new."""
        try:
            with FileLock(f"{self.path}.lock", timeout=5.0, poll_interval=0.001):
                old = self.path.read_bytes() if self.path.exists() else NO_JOBS
                jobs = msgspec.msgpack.decode(old, type=Jobs)
                answer = move(jobs, self._now(), *args, **kwargs)
                if (data := msgspec.msgpack.encode(jobs)) != old:
                    with Path(f"{self.path}.new").open("wb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    Path(file.name).replace(self.path)
                return answer
        except OSError as exc:
            raise BrokerUnavailable(f"{self.path} cannot be changed: {exc}") from exc
        except msgspec.MsgspecError as exc:
            raise ConfigurationError(f"{self.path} holds no jobs: choose another file") from exc


@dataclass
class FileLeaseClient(spi.LeaseClient):
    """The same renewal, for the thread that has no event loop."""

    broker: FileBroker

    def renew(self, tokens: Sequence[spi.Token], lease_ms: int) -> spi.Renewed:
        return self.broker.change(Jobs.renew, tokens, lease_ms)

    def close(self) -> None: ...
