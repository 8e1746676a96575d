"""Middleware: the base class, the named places in the chain, and the layers that are built in."""

from aioq._current import current_worker
from aioq._outcome import (
    Cancelled,
    Dead,
    Failed,
    Outcome,
    Released,
    Retried,
    Snoozed,
    Succeeded,
)
from aioq.middleware._base import (
    Around,
    FunctionMiddleware,
    Middleware,
    Next,
    Order,
    Returned,
    Send,
)
from aioq.middleware._logging import LoggingMiddleware
from aioq.middleware._results import ResultMiddleware
from aioq.middleware._retry import RetryMiddleware
from aioq.middleware._running import RunningJob, StopReason
from aioq.middleware._timeout import TimeoutMiddleware

__all__ = [
    "Around",
    "Cancelled",
    "Dead",
    "Failed",
    "FunctionMiddleware",
    "LoggingMiddleware",
    "Middleware",
    "Next",
    "Order",
    "Outcome",
    "Released",
    "ResultMiddleware",
    "Retried",
    "RetryMiddleware",
    "Returned",
    "RunningJob",
    "Send",
    "Snoozed",
    "StopReason",
    "Succeeded",
    "TimeoutMiddleware",
    "current_worker",
]
