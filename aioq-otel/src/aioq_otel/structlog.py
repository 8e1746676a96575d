"""Trace ids in log lines. ``aioq worker`` adds them to its own by itself."""

from collections.abc import MutableMapping
from typing import Any

from opentelemetry import trace

__all__ = ["add_trace_context"]


def add_trace_context(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor for structlog: ``trace_id``, ``span_id`` and ``trace_flags`` of the current span.

    Put it behind ``merge_contextvars``, in the chain of the logger: in the thread of a queued
    handler there is no current span.
    """
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
        event["trace_flags"] = f"{context.trace_flags:02x}"
    return event
