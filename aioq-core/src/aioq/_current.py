"""Which worker the running code belongs to."""

from contextvars import ContextVar
from typing import Final

from aioq._records import WorkerInfo

__all__ = ["WORKER", "current_worker"]

WORKER: Final[ContextVar[WorkerInfo | None]] = ContextVar("aioq_worker", default=None)
"""Set in the contexts of workers and their jobs: what they enqueue is part of the worker's work."""


def current_worker() -> WorkerInfo | None:
    """The worker whose lifespan, loop or job this code runs in, as it was at its start; None
    elsewhere."""
    return WORKER.get()
