"""What tracing costs per job: the same run with and without aioq-otel, on the memory broker.

Short rounds, each in another order, so that whatever else the machine does falls on all sides
alike: a run without the plugin, one with each set-up, one with a span that stands for itself.
What counts is the difference to the run without the plugin in the same round, and of all rounds
the median.
"""

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from aioq import Aarq, Context, Job, Middleware, Worker, WorkerOptions
from aioq.backends import MemoryBroker
from aioq.middleware import Next, Order, Returned, RunningJob, Send
from aioq_otel import TracingMiddleware

__all__ = ["overhead"]

ROUND: Final = 300
"""Jobs of one run; fewer than the batch processor wakes up for."""
ROUNDS: Final = 40
ATTRIBUTES: Final = {f"messaging.attribute.{number}": "value" for number in range(12)}
"""As many as an attempt has."""

Figures = dict[str, float]


def overhead(jobs: int) -> Figures:
    """Microseconds of CPU per job, of all threads, beyond those without the plugin.

    ``client`` is an enqueue, ``worker`` all from claim to settlement, ``batch`` what the batch
    processor takes afterwards to hand the spans of both to an exporter that does nothing.
    ``api``: no SDK; ``sdk``: one that records traces; ``metrics``: traces and metrics.

    ``bare`` is no plugin, but a layer that starts and ends one span with twelve attributes and
    does nothing with it: nothing that is built on the SDK costs less. The ``per_bare`` figures are
    in such spans, and so hold on any machine. ``loop_bare_span`` is the same span in a loop
    without jobs in between, which processors and allocators like better.
    """
    return asyncio.run(_overhead(max(3, min(ROUNDS, jobs // ROUND))))


async def _overhead(rounds: int) -> Figures:
    bare = _traces()
    sides = {
        "plain": _Side(None),
        "bare": _Side(_Bare(bare), bare),
        "api": _Side(TracingMiddleware()),
        "sdk": _Side(TracingMiddleware(tracer_provider=(sdk := _traces())), sdk),
        "metrics": _Side(
            TracingMiddleware(tracer_provider=(both := _traces()), meter_provider=_meters()), both
        ),
    }
    order, spread = list(sides), random.Random(1)
    rows: list[Figures] = []
    for _ in range(rounds + 1):
        spread.shuffle(order)
        found = {name: await sides[name].run() for name in order}
        row = {"loop_bare_span": _in_a_loop(bare)}
        row |= {f"plain_{part}": figure for part, figure in found["plain"].items()}
        for name in ("bare", "api", "sdk", "metrics"):
            for part, figure in found[name].items():
                row[f"{name}_{part}"] = figure - found["plain"][part]
        rows.append(row)
    # the first round warms up
    figures = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
    for name in ("sdk", "metrics"):
        for part in ("client", "worker"):
            bare_span = figures[f"bare_{part}"]
            figures[f"{name}_{part}_per_bare"] = figures[f"{name}_{part}"] / bare_span
    return figures


class _Side:
    """One side of the comparison.

    Args:
        layer: what is around jobs.
        traces: where it leaves spans.
    """

    def __init__(self, layer: Middleware | None, traces: TracerProvider | None = None) -> None:
        self._layer = layer
        self._traces = traces

    async def run(self) -> Figures:
        """Microseconds of CPU per job to enqueue one by one, to work off, and to hand over."""
        app = Aarq(MemoryBroker(max_records=2 * ROUND), plugins=False)
        if self._layer is not None:
            app.use(self._layer)
        stamps: list[float] = []

        @app.task(name="noop")
        async def noop(ctx: Context[Any]) -> None:
            stamps.append(time.process_time())

        await noop.enqueue()
        gc.collect()
        started = time.process_time()
        for _ in range(ROUND):
            await noop.enqueue()
        client = time.process_time() - started
        batch = self._hand_over()
        gc.collect()
        await Worker(app, WorkerOptions(burst=True)).run()
        worker = stamps[-1] - stamps[0]  # without the start and the end of the worker
        batch += self._hand_over()
        await app.broker.close()
        return {
            "client": client / ROUND * 1e6,
            "worker": worker / ROUND * 1e6,
            "batch": batch / ROUND * 1e6,
        }

    def _hand_over(self) -> float:
        started = time.process_time()
        if self._traces is not None:
            self._traces.force_flush()
        return time.process_time() - started


class _Bare(Middleware):
    """A span around each enqueue and each call, and nothing else."""

    order = Order.TRACE

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("bare")

    async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
        span = self._tracer.start_span("bare", attributes=ATTRIBUTES)
        await call_next(jobs)
        span.end()

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        span = self._tracer.start_span("bare", attributes=ATTRIBUTES)
        value = await call_next(job)
        span.end()
        return value


class _Nowhere(SpanExporter):
    """What is left of an exporter when neither encoding nor sending is measured."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _traces() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider


def _meters() -> MeterProvider:
    return MeterProvider([InMemoryMetricReader()])


def _in_a_loop(provider: TracerProvider) -> float:
    tracer = provider.get_tracer("bare")
    gc.collect()
    started = time.process_time()
    for _ in range(ROUND):
        tracer.start_span("bare", attributes=ATTRIBUTES).end()
    took = time.process_time() - started
    provider.force_flush()
    return took / ROUND * 1e6
