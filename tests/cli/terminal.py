"""A command on a pseudo-terminal, and what stands on its screen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

__all__ = ["Terminal"]

COLUMNS, ROWS = 100, 24


class Terminal:
    """Runs a command on a terminal of 100 columns and 24 rows until the block is left.

    Args:
        words: the command line.
        cwd: its working directory.
        env: its environment.
    """

    def __init__(self, words: list[str], cwd: Path, env: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            words, cwd=cwd, env=env | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.output = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def until(self, text: str, seconds: float = 60.0) -> None:
        """Read until this text has come since the last call."""
        start, deadline = len(self.output), time.monotonic() + seconds
        while text not in self.output[start:]:
            assert self._read(deadline), f"{text!r} did not come, but {self.output[start:]!r}"

    def end(self, seconds: float = 60.0) -> int:
        """Read until the command has ended; its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self._process.wait(seconds)

    def _read(self, deadline: float) -> bool:
        """Read some more; False at the end, or when the time is over."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._ours, 65_536) if ready else b""
        except OSError:  # Linux says so when the other side is closed
            data = b""
        self.output += data.decode()
        return bool(data)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, as if it were endless: CR and erase-to-end-of-line work."""
        lines, column = [""], 0
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.output):
            if part == "\n":
                lines.append("")
                column = 0
            elif part == "\r":
                column = 0
            elif part == "\x1b[K":
                lines[-1] = lines[-1][:column]
            elif not part.startswith("\x1b"):
                lines[-1] = lines[-1][:column] + part + lines[-1][column + len(part) :]
                column += len(part)
        return lines
