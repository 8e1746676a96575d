"""The short way of a span alone is the propagator's own, and no other propagator is passed over."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from otel.conftest import Traced

from aioq import Context as Ctx
from aioq_otel import _propagation
from aioq_otel._propagation import Propagation, span_of

TRACE_ID, SPAN_ID = 0xA1 << 100, 0xB2 << 50
PARENT = f"{TRACE_ID:032x}-{SPAN_ID:016x}"


def within(flags: int = 1, state: TraceState | None = None, span_id: int = SPAN_ID) -> Context:
    span = SpanContext(TRACE_ID, span_id, False, TraceFlags(flags), state)
    return trace.set_span_in_context(NonRecordingSpan(span), Context())


@pytest.mark.parametrize(
    "context",
    [
        within(),
        within(0),
        within(3),
        within(span_id=0),
        within(state=TraceState([("vendor", "1")])),
        baggage.set_baggage("tenant", "a", within()),
        baggage.set_baggage("tenant", "a", Context()),
        Context({"something": "else"}),
    ],
)
def test_headers_are_those_of_the_propagator(context: Context) -> None:
    expected: dict[str, str] = {}
    propagate.inject(expected, context)
    assert Propagation(with_baggage=True).carrier(context) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{PARENT}-01"},
        {"traceparent": f"00-{PARENT}-00"},
        {"traceparent": f" 00-{PARENT}-01 "},
        {"traceparent": f"00-{PARENT}-01-more"},
        {"traceparent": f"cc-{PARENT}-01-more"},
        {"traceparent": f"00-{PARENT.upper()}-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN_ID:016x}-01"},
        {"traceparent": "rubbish"},
        {"tracestate": "vendor=1"},
        {"traceparent": f"00-{PARENT}-01", "tracestate": "vendor=1", "baggage": "tenant=a"},
    ],
)
def test_headers_are_read_as_by_the_propagator(headers: dict[str, str]) -> None:
    expected = propagate.extract(headers, Context())
    found = Propagation(with_baggage=True).extract(headers)
    assert span_of(found) == span_of(expected)
    assert baggage.get_all(found) == baggage.get_all(expected)


class Tenant(TraceContextTextMapPropagator):
    """Adds a header of which the context says nothing."""

    def inject(self, carrier: Any, *arguments: Any, **options: Any) -> None:
        super().inject(carrier, *arguments, **options)
        carrier["tenant"] = "a"


@pytest.mark.parametrize(
    ("textmap", "plain"),
    [
        (TraceContextTextMapPropagator(), True),
        (CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]), True),
        (CompositePropagator([W3CBaggagePropagator()]), False),
        (CompositePropagator([Tenant(), W3CBaggagePropagator()]), False),
        (Tenant(), False),
    ],
)
async def test_only_propagators_that_are_known_are_done_without(
    textmap: Any,
    plain: bool,
    trace_with: Callable[..., Traced],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _propagation._is_plain(textmap) is plain
    monkeypatch.setattr(propagate, "get_global_textmap", lambda: textmap)
    monkeypatch.setattr(propagate, "inject", textmap.inject)
    traced = trace_with()

    @traced.app.task(name="t")
    async def task(ctx: Ctx[Any]) -> None: ...

    job = await task.enqueue()
    expected: dict[str, str] = {}
    span = NonRecordingSpan(traced.one("enqueue t").get_span_context())
    textmap.inject(expected, trace.set_span_in_context(span, Context()))
    assert dict(job.headers) == expected
