"""aioq: an async, typed job queue that never loses a job, on the store you have."""

from importlib.metadata import version as _version

from aioq._app import Aarq
from aioq._context import Context
from aioq._job import Job
from aioq._task import TaskDef
from aioq.errors import Abort, Retry, Snooze
from aioq.middleware import Middleware
from aioq.worker import Worker, WorkerOptions

__all__ = [
    "Aarq",
    "Abort",
    "Context",
    "Job",
    "Middleware",
    "Retry",
    "Snooze",
    "TaskDef",
    "Worker",
    "WorkerOptions",
    "__version__",
]

__version__ = _version("aioq-core")
