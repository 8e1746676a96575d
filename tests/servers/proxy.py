"""A TCP proxy that can do to connections what networks do: cut them, hold their bytes, forget them.

It runs in a thread of its own, so that it works also while a test's event loop is blocked.
"""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import Any

__all__ = ["Proxy"]


class _Mode(Enum):
    OPEN = "open"
    HELD = "held"
    """Bytes wait until ``release``."""
    LOST = "lost"
    """Bytes are swallowed for good, as by a router that has forgotten the connection."""


class _Pair:
    """One client's connection and the one to the server."""

    def __init__(self) -> None:
        self.mode = _Mode.OPEN
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0
        """From which the server is connected to."""

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.flowing.wait()
                if self.mode is not _Mode.LOST:
                    writer.write(data)
                    await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if self.mode is not _Mode.LOST:
                self.cut()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Listens on a free port of the loopback and passes on to ``host:port``; a context manager.

    Args:
        port: of the server.
        host: of the server.
        tls: speaks TLS with the clients, and plain with the server.
    """

    def __init__(
        self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._target = (host, port)
        self._tls = tls
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._holding = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def lead_to(self, port: int) -> None:
        """Pass new connections on to another server, as a name does that follows the primary."""
        self._target = (self._target[0], port)

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Reset every connection, and new ones as well."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """New connections are welcome again."""
        self._refusing = False

    def hold(self) -> None:
        """Hold all bytes of all connections, new ones too; nobody is told."""
        self._holding = True
        self._do(lambda: [pair.flowing.clear() for pair in self._pairs])

    def release(self) -> None:
        """Let the bytes that were held flow on."""
        self._holding = False
        self._do(lambda: [pair.flowing.set() for pair in self._pairs])

    def forget(self, ports: Collection[int] | None = None) -> None:
        """Leave connections half-open for good: nothing passes any more. New ones work.

        Args:
            ports: only those that the server sees come from these; all when None.
        """
        self._do(lambda: self._forget(ports))

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.port = self._wait(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = _Pair()
        pair.writers.append(writer)
        if self._holding:
            pair.flowing.clear()
        self._pairs.add(pair)
        try:
            if self._refusing:
                return
            there, back = await asyncio.open_connection(*self._target)
            pair.writers.append(back)
            pair.port = back.get_extra_info("sockname")[1]
            await asyncio.gather(pair.pump(reader, back), pair.pump(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            pair.cut()
            self._pairs.discard(pair)
            self._tasks.discard(task)

    async def _close(self) -> None:
        self._server.close()
        self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.mode = _Mode.OPEN
            pair.flowing.set()
            pair.cut()

    def _forget(self, ports: Collection[int] | None) -> None:
        for pair in self._pairs:
            if ports is None or pair.port in ports:
                pair.mode = _Mode.LOST

    def _do(self, action: Callable[[], object]) -> None:
        async def run() -> None:
            action()

        self._wait(run())

    def _wait(self, call: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await call

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)
