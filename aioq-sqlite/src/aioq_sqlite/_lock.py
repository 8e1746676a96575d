"""The lock between processes: a file that one of them holds while it writes.

The kernel queues those who wait and frees the lock when its holder dies. It does not free it when
the holder is stopped (SIGSTOP): everybody waits then.
"""

import os
import sys
import weakref
from pathlib import Path
from types import TracebackType

__all__ = ["FileLock"]

if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(fd: int) -> None:
        # The C library gives up after ten tries of a second each; waiting is meant to last.
        while True:
            os.lseek(fd, 0, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(0.002)
            else:
                return

    def _unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class FileLock:
    """``with lock:`` waits for the lock and holds it. Used by one thread, never nested."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        _open.add(self)

    def __enter__(self) -> None:
        _lock(self._fd)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _unlock(self._fd)

    def close(self) -> None:
        """Free the file. The file itself stays: others may be waiting on it."""
        _open.discard(self)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_open: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child shares the lock. Were its parent killed inside, the child would hold on to it.
    for lock in list(_open):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
