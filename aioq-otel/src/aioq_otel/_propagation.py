"""How context travels with a job: in its headers from the caller, in its note between attempts."""

import re
from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aioq.middleware import RunningJob
from aioq_otel import _names as names

__all__ = ["Propagation", "crashes_before", "leave", "previous_attempt", "span_of"]

PREVIOUS: Final = "aioq-otel.previous"
CRASHES: Final = "aioq-otel.crashes"
NOWHERE: Final = Context()
BAGGAGE: Final = "baggage"
TRACEPARENT: Final = "traceparent"


class Propagation:
    """Writes and reads headers with the global propagator (``OTEL_PROPAGATORS``).

    Args:
        with_baggage: False keeps baggage out of the store.
    """

    def __init__(self, *, with_baggage: bool) -> None:
        self._with_baggage = with_baggage

    def carrier(self, context: Context) -> dict[str, str]:
        """What to put into the headers of jobs that are made in ``context``."""
        if len(context) == 1 and _is_plain(propagate.get_global_textmap()):
            span = span_of(context)
            if span.is_valid and not span.trace_state:
                return {TRACEPARENT: _written(span)}
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context if self._with_baggage else baggage.clear(context))
        return carrier

    @staticmethod
    def put(carrier: Mapping[str, str], headers: MutableMapping[str, str]) -> None:
        """Into the headers; a trace context that the caller put there stays what it is."""
        if not headers:
            headers.update(carrier)
            return
        own = any(name in headers for name in propagate.get_global_textmap().fields - {BAGGAGE})
        for name, value in carrier.items():
            if name not in headers and (name == BAGGAGE or not own):
                headers[name] = value

    def extract(self, headers: Mapping[str, str]) -> Context:
        """The context of the enqueue: its span as a remote one, its baggage."""
        if not headers:
            return NOWHERE
        if len(headers) == 1 and _is_plain(propagate.get_global_textmap()):
            span = _read(headers.get(TRACEPARENT, ""))
            if span is not None:
                return trace.set_span_in_context(NonRecordingSpan(span), NOWHERE)
        context = propagate.extract(headers, NOWHERE)
        return context if self._with_baggage else baggage.clear(context)


@lru_cache(8)
def _is_plain(textmap: TextMapPropagator) -> bool:
    """Whether it is W3C's trace context, with baggage or without, as by default: then a span alone
    is one header of a fixed form, which is written and read here in a fifth of the time."""
    parts: Sequence[Any] = [textmap]
    if type(textmap) is CompositePropagator:
        parts = getattr(textmap, "_propagators", parts)
    kinds: set[type[Any]] = {type(part) for part in parts}
    return TraceContextTextMapPropagator in kinds and kinds <= {
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    }


def _written(span: SpanContext) -> str:
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _read(text: str) -> SpanContext | None:
    """What ``_written`` wrote; None for anything else."""
    found = _TRACEPARENT(text)
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    span = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return span if span.is_valid else None


_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch


# -- from one attempt to the next ------------------------------------------------------------------


def leave(job: RunningJob, span: SpanContext) -> None:
    """Leave for the next attempt which span this one had, and how many crashes are known."""
    if span.is_valid:
        job.carry[PREVIOUS] = _written(span)
    if job.crashes:
        job.carry[CRASHES] = str(job.crashes)


def previous_attempt(job: RunningJob) -> Link | None:
    """The link to the span of the attempt before, if that left one."""
    span = _read(job.carried.get(PREVIOUS, ""))
    return None if span is None else Link(span, {names.LINK_TYPE: "previous_attempt"})


def crashes_before(job: RunningJob) -> bool:
    """Whether the hand-out before this one ended with its worker. The job counts its crashes; what
    an attempt that came to an end knew of them lies in its note."""
    if not job.crashes:
        return False
    known = job.carried.get(CRASHES, "0")
    return job.crashes > (int(known) if known.isdecimal() else 0)


def span_of(context: Context) -> SpanContext:
    """The span context in ``context``; an invalid one where there is none."""
    return trace.get_current_span(context).get_span_context()
