"""Errors as text: one line for people, a traceback that begins in the user's code."""

import difflib
import traceback
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import TypeAlias

from aioq.errors import Abort, AioqError

__all__ = [
    "ExcInfo",
    "describe",
    "did_you_mean",
    "exc_info",
    "nearest",
    "shorten",
    "traceback_of",
]

MAX_ERROR = 2_000
MAX_TRACEBACK = 16_000
_MACHINERY = {"aioq", "anyio", "asyncio", "outcome", "trio"}
"""Packages whose code calls that of tasks."""

_CALL_OF_A_TASK = "aioq.worker._innermost"

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def describe(error: BaseException) -> str:
    """``"ValueError: boom"``; an ``Abort`` is its reason."""
    if isinstance(error, Abort):
        return shorten(error.reason, MAX_ERROR)
    try:
        text = str(error)
    except Exception as exc:
        text = f"(its text cannot be had: {type(exc).__name__})"
    name = type(error).__qualname__
    return shorten(f"{name}: {text}" if text else name, MAX_ERROR)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` may be a slip of."""
    found = difflib.get_close_matches(name, list(known), 1)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message that ``name`` is unknown: what is near, or else ``otherwise``."""
    if near := nearest(name, known):
        return f"; did you mean {near!r}?"
    return f"; {otherwise}" if otherwise else ""


def exc_info(error: BaseException) -> ExcInfo:
    """For a logger's ``exc_info``: the error without the frames that led to its task."""
    start = error.__traceback__
    frames = _from_user_code(start)
    if frames is None and not isinstance(error, AioqError):
        frames = start
    return type(error), error, frames


def traceback_of(error: BaseException) -> str:
    """Its traceback as text, the end of it where it is very long."""
    try:
        text = "".join(traceback.format_exception(*exc_info(error)))
    except Exception as exc:
        return f"(no traceback: formatting it raised {type(exc).__name__})"
    return shorten(text, MAX_TRACEBACK, keep_end=True)


def _from_user_code(frame: TracebackType | None) -> TracebackType | None:
    """Behind the call of a task, where there is one; from there the first frame that is not on the
    way; None when all are."""
    inner = frame
    while inner is not None:
        if inner.tb_frame.f_globals.get("__name__") == _CALL_OF_A_TASK:
            frame = inner.tb_next
        inner = inner.tb_next
    while frame is not None and _leads_to_user_code(frame.tb_frame):
        frame = frame.tb_next
    return frame


def _leads_to_user_code(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _MACHINERY


def shorten(text: str, limit: int, *, keep_end: bool = False) -> str:
    """At most about ``limit`` characters, and nothing that UTF-8 cannot carry."""
    if len(text) > limit:
        cut = f"({len(text) - limit} characters left out)"
        text = f"{cut} ...{text[-limit:]}" if keep_end else f"{text[:limit]}... {cut}"
    return text.encode("utf-8", "backslashreplace").decode()
