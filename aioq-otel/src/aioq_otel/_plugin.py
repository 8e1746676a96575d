"""Brings tracing and metrics to every app, and trace ids to the worker's log lines."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aioq import Aarq, Middleware
from aioq.plugins import hookimpl

if TYPE_CHECKING:
    from structlog.typing import Processor


@hookimpl
def aioq_middlewares(app: Aarq) -> Iterable[Middleware]:
    from aioq_otel._instrumentor import switch
    from aioq_otel._middleware import TracingMiddleware

    own = any(isinstance(layer, TracingMiddleware) for layer in app.layers)
    return [] if own or switch.off else [TracingMiddleware(**switch.options)]


@hookimpl
def aioq_log_processors() -> "Iterable[Processor]":
    from aioq_otel.structlog import add_trace_context

    return [add_trace_context]
