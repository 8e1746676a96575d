"""Logging of the worker process: structlog to stderr, the libraries' own logging beside it."""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

import structlog
from structlog.typing import Processor

__all__ = ["LEVELS", "configure_logging"]

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(
    level: str, form: str | None = None, processors: Iterable[Processor] = ()
) -> None:
    """Set up structlog and the root logger of ``logging`` for this process.

    Args:
        level: the least level shown, one of ``LEVELS``; libraries are heard from warning on.
        form: ``console`` or ``json``; None is console on a terminal, JSON elsewhere.
        processors: add to each line before it is rendered.
    """
    least: int = getattr(logging, level.upper())
    terminal = sys.stderr.isatty()
    console = form == "console" or (form is None and terminal)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *processors,
    ]
    rendering = _console(colors=terminal and "NO_COLOR" not in os.environ) if console else _json()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(least, logging.WARNING), force=True)


def _console(*, colors: bool) -> list[Any]:
    # the renderer's default for exceptions shows local variables: arguments and results of jobs
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def _json() -> list[Any]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
