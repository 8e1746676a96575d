"""An app on a memory broker whose spans and metrics stay in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aioq import Aarq, Worker, WorkerOptions
from aioq.backends import MemoryBroker
from aioq.testing import FakeClock
from aioq_otel import TracingMiddleware

__all__ = ["Traced"]


class Traced:
    """The app, and what it has emitted so far."""

    def __init__(self, *, sampler: Any = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.tracer = self.provider.get_tracer("a user's own")
        self.broker = MemoryBroker(clock=self.clock)
        self.app = Aarq(self.broker, plugins=False)
        self.layer = self.app.use(
            TracingMiddleware(tracer_provider=self.provider, meter_provider=self.meters, **options)
        )

    async def work(self, *, after: float = 0.0) -> None:
        """Move the store's clock by seconds, and run what is due then."""
        self.clock.advance(round(after * 1000))
        await Worker(self.app, WorkerOptions(burst=True)).run()

    @property
    def spans(self) -> list[ReadableSpan]:
        """Finished spans, in the order of their start."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def points(self) -> dict[str, list[Any]]:
        """The data points of all metrics by name."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def close(self) -> None:
        self.provider.shutdown()
        self.meters.shutdown()


@pytest.fixture
def trace_with() -> Iterator[Callable[..., Traced]]:
    """Makes a traced app with these options."""
    made: list[Traced] = []

    def make(**options: Any) -> Traced:
        made.append(Traced(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def traced(trace_with: Callable[..., Traced]) -> Traced:
    """A traced app as it is by default."""
    return trace_with()
