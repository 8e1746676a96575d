"""The worker: claims jobs, runs them through the middleware, and stores how they ended."""

from aioq.worker._options import WorkerOptions
from aioq.worker._worker import Worker

__all__ = ["Worker", "WorkerOptions"]
