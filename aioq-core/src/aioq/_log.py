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
    quiet = structlog.make_filtering_bound_logger(logging.INFO)
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=quiet).bind()
