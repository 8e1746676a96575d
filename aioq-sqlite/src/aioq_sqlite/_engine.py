"""The threads behind an open broker, and their end: asked for, forgotten, or after a fork."""

import atexit
import os
import weakref
from collections.abc import Callable
from pathlib import Path

from aioq_sqlite._bells import Bells
from aioq_sqlite._calls import awaited
from aioq_sqlite._reader import Reader
from aioq_sqlite._store import Store, Synchronous
from aioq_sqlite._tx import Tx
from aioq_sqlite._writer import Writer

__all__ = ["Engine"]

PATIENCE = 30.0
"""Seconds after which a caller is told that the store is out of reach."""
PATIENCE_AT_EXIT = 2.0


class Engine:
    """One opening of a database: writer, reader, bells. Never opened twice."""

    def __init__(self, path: Path, synchronous: Synchronous, clock: Callable[[], int]) -> None:
        store = Store(path, synchronous)
        self.bells = Bells(Path(f"{path}.bells"))
        self.reader = Reader(store, clock)
        self.writer = Writer(store, self.reader, self.bells, clock)
        self._pid = os.getpid()
        self._ready = False
        self.writer.start()
        _running.add(self)

    @property
    def forked(self) -> bool:
        """The threads belong to the parent of this process."""
        return self._pid != os.getpid()

    async def ready(self) -> None:
        """Wait until the database is open.

        Raises:
            AioqError: it cannot be opened.
        """
        if not self._ready:
            call = awaited(_nothing)
            self.writer.put(call)
            await call.result(PATIENCE)
            self._ready = True

    async def close(self) -> None:
        """Finish what was handed over and close the database."""
        self.bells.close()
        farewell = awaited(_nothing)
        self.writer.stop(farewell)
        await farewell.result(PATIENCE)
        # its last word was spoken by the thread: a moment until that has ended, too
        self.writer.join(PATIENCE_AT_EXIT)
        _running.discard(self)

    def stop(self) -> None:
        """As ``close``, without waiting."""
        self.writer.stop()

    def keep_in_child(self) -> None:
        """Hold on to the parent's connections: closing them here would disturb the parent."""
        _inherited.append(self)


_running: "weakref.WeakSet[Engine]" = weakref.WeakSet()
_inherited: list[Engine] = []


def _nothing(tx: Tx) -> None:
    """An operation that only shows that the database is open."""


def _stop_all() -> None:
    engines = [engine for engine in _running if not engine.forked]
    for engine in engines:
        engine.stop()
    for engine in engines:
        engine.writer.join(PATIENCE_AT_EXIT)


atexit.register(_stop_all)
