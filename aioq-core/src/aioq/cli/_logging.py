"""Logging of the worker process: structlog to stderr, and beside it what libraries and tasks log by
``logging`` and tell by ``warnings``."""

import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from aioq._log import get_logger
from aioq.cli._output import place

__all__ = ["LEVELS", "configure_logging", "log_warning"]

AIOQ = Path(__file__).parent.parent
LEVELS = ("debug", "info", "warning", "error")


def configure_logging(
    level: str,
    form: str | None = None,
    processors: Iterable[Processor] = (),
    *,
    libraries: str = "warning",
) -> None:
    """Set up structlog and the root logger of ``logging`` for this process.

    Args:
        level: the least level shown, one of ``LEVELS``.
        form: ``console`` or ``json``; None is console on a terminal, JSON elsewhere.
        processors: add to each line before it is rendered.
        libraries: the least level shown of what comes by ``logging``.
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
    logging.basicConfig(handlers=[handler], level=libraries.upper(), force=True)


def log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """``warnings.showwarning`` of a worker: a line of its log, and of the job whose task it is."""
    # what aioq has to say is about the command line or the app, and not about its own line
    where = {} if Path(filename).is_relative_to(AIOQ) else {"at": place(filename, lineno)}
    get_logger().warning(
        "python.warning", message=str(message), category=category.__name__, **where
    )


def _console(*, colors: bool) -> list[Any]:
    # the renderer's default for exceptions shows local variables: arguments and results of jobs
    plain = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, exception_formatter=plain)
    ]


def _json() -> list[Any]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
