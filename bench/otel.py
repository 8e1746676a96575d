"""What tracing costs per job: the same run with and without aioq-otel, on the memory broker.

Alone with the interpreter and the event loop, so that the figure is the plugin's own: client and
worker are measured apart, each beside the same run without the plugin.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from aioq import Aarq, Context, Worker, WorkerOptions
from aioq.backends import MemoryBroker
from aioq_otel import TracingMiddleware

__all__ = ["with_sdk", "without_sdk"]


class _Nowhere(SpanExporter):
    """What is left of an exporter when neither encoding nor sending is measured."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _traces() -> TracingMiddleware:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return TracingMiddleware(tracer_provider=provider)


def _all() -> TracingMiddleware:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    meters = MeterProvider([InMemoryMetricReader()])
    return TracingMiddleware(tracer_provider=provider, meter_provider=meters)


def with_sdk(jobs: int) -> dict[str, float]:
    """An SDK with the batch processor; then with metrics as well. Beside what the SDK takes for a
    bare span, which nothing built on it can go below."""
    return {
        "bare_span_us": _bare_span(jobs),
        **_compare(jobs, "traces", _traces),
        **_compare(jobs, "all", _all),
    }


def without_sdk(jobs: int) -> dict[str, float]:
    """The API alone."""
    return _compare(jobs, "api", TracingMiddleware)


def _bare_span(spans: int) -> float:
    """Microseconds of CPU per span with as many attributes as that of an attempt."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    tracer = provider.get_tracer("bare")
    attributes = {f"messaging.attribute.{number}": "value" for number in range(12)}
    gc.collect()
    started = time.process_time()
    for _ in range(spans):
        tracer.start_span("bare", attributes=attributes).end()
    return (time.process_time() - started) / spans * 1e6


def _compare(jobs: int, name: str, layer: Callable[[], TracingMiddleware]) -> dict[str, float]:
    plain_client, plain_worker = asyncio.run(_run(jobs, None))
    client, worker = asyncio.run(_run(jobs, layer()))
    return {
        f"{name}_client_us": client - plain_client,
        f"{name}_worker_us": worker - plain_worker,
        f"{name}_client_ratio": client / plain_client,
        f"{name}_worker_ratio": worker / plain_worker,
    }


async def _run(jobs: int, layer: TracingMiddleware | None) -> tuple[float, float]:
    """Microseconds of CPU per job to enqueue one by one, and to work off."""
    app = Aarq(MemoryBroker(max_records=jobs), plugins=False)
    if layer is not None:
        app.use(layer)

    @app.task(name="noop")
    async def noop(ctx: Context[Any]) -> None: ...

    await noop.enqueue()
    gc.collect()
    started = time.process_time()
    for _ in range(jobs - 1):
        await noop.enqueue()
    client = time.process_time() - started
    gc.collect()
    started = time.process_time()
    await Worker(app, WorkerOptions(burst=True)).run()
    worker = time.process_time() - started
    return client / jobs * 1e6, worker / jobs * 1e6
