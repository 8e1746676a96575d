"""aioq's logger: the user's structlog when they configured it, quiet below INFO when not.

As a library aioq never configures logging; only the command line does.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog

__all__ = ["Logger", "get_logger"]


class Logger:
    """A structlog logger whose lines may fail, because nobody reads the pipe any more, the disk is
    full, or a processor has a bug: that ends no job and no worker."""

    __slots__ = ("debug", "error", "info", "warning")

    def __init__(self, logger: Any) -> None:
        self.debug = _safe(logger.debug)
        self.info = _safe(logger.info)
        self.warning = _safe(logger.warning)
        self.error = _safe(logger.error)


def _safe(write: Callable[..., object]) -> Callable[..., None]:
    def line(event: str, **fields: Any) -> None:
        try:
            write(event, **fields)
        except Exception as exc:
            _lost(event, exc)

    return line


def _lost(event: str, error: Exception) -> None:
    """Tell of a line that could not be written, where that can still be told."""
    try:
        sys.stderr.write(f"aioq: the log line {event!r} is lost: {type(error).__name__}: {error}\n")
    except (OSError, ValueError):
        # stderr is what has gone: there is nobody left to tell
        return


def get_logger() -> Logger:
    """A structlog logger named ``aioq``; call it when a worker or client starts, not at import."""
    if structlog.is_configured():
        return Logger(structlog.get_logger("aioq").bind())
    return Logger(
        structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                # the renderer's default shows local variables: arguments and results of jobs
                structlog.dev.ConsoleRenderer(
                    colors=False, exception_formatter=structlog.dev.plain_traceback
                ),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        ).bind()
    )
