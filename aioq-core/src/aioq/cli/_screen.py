"""A line at the foot of the terminal that changes in place, below all that is printed."""

import shutil
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

__all__ = ["Foot", "foot"]

_ERASE = "\r\x1b[K"


class Foot:
    """The line. What others print goes above it, whole lines and parts of lines alike."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lock = threading.RLock()
        self._text = ""
        self._shown = False
        self._at_line_start = True

    def show(self, text: str) -> None:
        """Change the line, cut to the terminal's width; an empty text takes it away."""
        with self._lock:
            self._text = text
            self._erase()
            self._draw()

    def print(self, stream: TextIO, text: str) -> int:
        """Write to a stream of the same terminal."""
        with self._lock:
            self._erase()
            written = stream.write(text)
            stream.flush()
            if text:
                self._at_line_start = text.endswith("\n")
            self._draw()
            return written

    def _erase(self) -> None:
        if self._shown:
            self._terminal.write(_ERASE)
            self._terminal.flush()
            self._shown = False

    def _draw(self) -> None:
        # behind an unfinished line there is no place for it
        if self._text and self._at_line_start:
            self._terminal.write(self._text[: shutil.get_terminal_size().columns - 1])
            self._terminal.flush()
            self._shown = True


class _Above:
    """A stream of the terminal, as printed to by those who do not know of the foot."""

    def __init__(self, foot: Foot, stream: TextIO) -> None:
        self._foot = foot
        self._stream = stream

    def write(self, text: str) -> int:
        return self._foot.print(self._stream, text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def foot() -> Generator[Foot, None, None]:
    """A foot on the terminal of stderr; what is printed through ``sys`` stays out of its way."""
    line = Foot(sys.stderr)
    with ExitStack() as stack:
        stack.callback(line.show, "")
        stack.enter_context(redirect_stderr(cast("TextIO", _Above(line, sys.stderr))))
        if sys.stdout.isatty():
            stack.enter_context(redirect_stdout(cast("TextIO", _Above(line, sys.stdout))))
        yield line
