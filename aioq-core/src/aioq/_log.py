"""aioq's logger: the user's structlog when they configured it, quiet below INFO when not.

As a library aioq never configures logging; only the command line does.
"""

import logging
import sys
from typing import Any

import structlog

__all__ = ["get_logger"]


def get_logger() -> Any:
    """A structlog logger named ``aioq``; call it when a worker or client starts, not at import."""
    if structlog.is_configured():
        return structlog.get_logger("aioq").bind()
    return structlog.wrap_logger(
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
