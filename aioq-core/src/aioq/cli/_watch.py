"""A live view: a text that is drawn again and again in the same place of the terminal."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NoReturn

from aioq.cli._output import one_line, utc
from aioq.errors import BrokerUnavailable

__all__ = ["watch"]

_HOME, _TO_LINE_END, _TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


async def watch(title: str, read: Callable[[], Awaitable[str]], every: float) -> NoReturn:
    """Show what ``read`` returns, anew every so many seconds, until the task is cancelled.

    While the store is out of reach the last text stays, and the head says so.
    """
    with _own_screen():
        body = ""
        while True:
            news = f"every {every:g} s, Ctrl-C ends"
            try:
                body = await read()
            except BrokerUnavailable as exc:
                news = f"OUT OF REACH: {exc}"
            _draw([f"{utc(datetime.now(UTC))} UTC  {title}", one_line(news), "", *body.split("\n")])
            await asyncio.sleep(every)


@contextmanager
def _own_screen() -> Generator[None, None, None]:
    """The terminal's other page, without cursor; what stood there before comes back after."""
    _send(_ENTER)
    try:
        yield
    finally:
        _send(_LEAVE)


def _draw(lines: list[str]) -> None:
    columns, rows = shutil.get_terminal_size()
    if len(lines) > rows:
        lines = [*lines[: rows - 1], f"... and {len(lines) - rows + 1} more"]
    drawn = (f"{line[:columns]}{_TO_LINE_END}" for line in lines)
    _send(_HOME + "\n".join(drawn) + _TO_SCREEN_END)


def _send(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
