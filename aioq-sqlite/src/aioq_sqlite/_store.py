"""The database file of one broker: its lock and its two connections."""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Literal, TypeAlias

from aioq.errors import BrokerError, ConfigurationError
from aioq_sqlite._errors import translate
from aioq_sqlite._lock import FileLock
from aioq_sqlite._schema import prepare
from aioq_sqlite._url import check_place

__all__ = ["Store", "Synchronous"]

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

OLDEST = (3, 35, 0)
BUSY_MS = 5_000
WAL_LIMIT = 8 * 1024 * 1024

_log = logging.getLogger("aioq_sqlite")


class Store:
    """Opened, written and closed by the writer thread; ``reading`` is for the reader thread.

    Every write, every checkpoint, and also open and close (which may checkpoint) happen under
    ``lock``: so writers are served in turn, and the race in which SQLite before 3.51.3 can damage a
    database in WAL mode cannot happen between aioq's processes.
    """

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self.path = path
        self._synchronous = synchronous
        self._wal = Path(f"{path}-wal")
        self._file = (0, 0)

    def open(self) -> None:
        """Connect; wait for the lock as long as it takes.

        Raises:
            ConfigurationError: the file cannot be used as it is.
            BrokerUnavailable: it cannot be reached now.
        """
        if sqlite3.sqlite_version_info < OLDEST:
            raise ConfigurationError(
                f"SQLite {sqlite3.sqlite_version} is too old: aioq needs "
                f"{'.'.join(map(str, OLDEST))} or newer"
            )
        check_place(self.path)
        try:
            self.lock = FileLock(Path(f"{self.path}.lock"))
        except OSError as exc:
            raise ConfigurationError(
                f"{self.path}.lock cannot be opened for writing: {exc.strerror}"
            ) from exc
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.lock.close)
            with self.lock, contextlib.ExitStack() as connections:
                self._connect(connections)
                connections.pop_all()
            on_error.pop_all()
        if _has_wal_reset_bug(sqlite3.sqlite_version_info):
            _log.info(
                "SQLite %s can damage %s when a program other than aioq writes to it at the same "
                "time; aioq itself is not affected",
                sqlite3.sqlite_version,
                self.path,
            )

    def _connect(self, stack: contextlib.ExitStack) -> None:
        try:
            self.writing = _connect(self.path)
            stack.callback(self.writing.close)
            self.writing.execute(f"pragma busy_timeout = {BUSY_MS}")
            prepare(self.writing, str(self.path))
            mode = self.writing.execute("pragma journal_mode = wal").fetchone()[0]
            if mode != "wal":
                raise ConfigurationError(
                    f"{self.path} cannot use write-ahead logging (journal mode {mode!r}): put it "
                    f"on a local disk"
                )
            self.writing.execute("pragma wal_autocheckpoint = 0")
            self.writing.execute(f"pragma synchronous = {self._synchronous}")
            self.writing.execute(f"pragma journal_size_limit = {WAL_LIMIT}")
            self.writing.execute("pragma foreign_keys = off")
            self.writing.execute("pragma temp_store = memory")
            # A file that may only be read is refused now, not when somebody has a job for it.
            self.writing.execute("begin immediate")
            self.writing.execute("update stamp set last = last")
            self.writing.rollback()
            self.reading = _connect(self.path)
            stack.callback(self.reading.close)
            self.reading.execute(f"pragma busy_timeout = {BUSY_MS}")
            self.reading.execute("pragma wal_autocheckpoint = 0")
            self.reading.execute("pragma query_only = on")
            self.reading.execute("select 1 from stamp").fetchone()
            self._file = _identity(self.path)
        except sqlite3.Error as exc:
            translated = translate(exc, str(self.path))
            if isinstance(translated, ConnectionError):
                raise translated from exc
            raise ConfigurationError(str(translated)) from exc

    def close(self) -> None:
        """Disconnect; the last of all processes leaves the database in its one file."""
        try:
            with self.lock:
                self.reading.close()
                self.writing.close()
        finally:
            self.lock.close()

    def check(self) -> None:
        """Make sure that the file is still the one that was opened. SQLite does not: it would go
        on with a file that nobody else can see, or with the log of another one.

        Raises:
            BrokerError: it is gone, or another one has its name.
        """
        try:
            same = _identity(self.path) == self._file
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise BrokerError(
                f"{self.path} was removed or replaced while it was in use: restart this process"
            )

    def wal_size(self) -> int:
        """Bytes in the write-ahead log."""
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0

    def checkpoint(self) -> None:
        """Move the log into the database and empty it; called under the lock, outside a
        transaction. A reader in the middle of a query is not waited for: the next call does it.
        """
        self.writing.execute("pragma busy_timeout = 0")
        try:
            self.writing.execute("pragma wal_checkpoint(truncate)").fetchone()
        except sqlite3.OperationalError as exc:
            _log.info("checkpoint of %s put off: %s", self.path, exc)
        finally:
            self.writing.execute(f"pragma busy_timeout = {BUSY_MS}")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - called for each commit, and faster
    return found.st_dev, found.st_ino


def _has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    fixed_in = {(3, 44): 6, (3, 50): 7}
    return version < (3, 51, 3) and version[2] < fixed_in.get(version[:2], 1_000)
