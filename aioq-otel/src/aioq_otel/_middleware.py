"""``TracingMiddleware``: the outermost layer of the onion."""

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

import anyio
from opentelemetry import context as current
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from aioq import Aarq, Job, Middleware
from aioq.middleware import Next, Order, Returned, RunningJob, Send, current_worker
from aioq_otel import _names as names
from aioq_otel._enqueue import Enqueues
from aioq_otel._flush import flush
from aioq_otel._instrumentor import switch
from aioq_otel._options import Options, Relationship, RetryStatus, SpanName
from aioq_otel._process import Attempts
from aioq_otel._queues import PERIOD, Reporter, Snapshot
from aioq_otel._server import server_of
from aioq_otel._telemetry import Telemetry

__all__ = ["TracingMiddleware"]

Subject = TypeVar("Subject", contravariant=True)
Begun = TypeVar("Begun")

SUPPRESSED: Final = Context({"suppress_instrumentation": True})
"""The key that instrumentations of drivers look for."""

_log = logging.getLogger("aioq.otel")


class _Part(Protocol[Subject, Begun]):
    """What has a begin and an end."""

    def begin(self, subject: Subject, /) -> Begun | None: ...

    def end(self, subject: Subject, begun: Begun, raised: BaseException | None, /) -> None: ...


class TracingMiddleware(Middleware):
    """Spans and metrics of one app's enqueues and attempts.

    The plugin adds one to every app; ``app.use(TracingMiddleware(...))`` takes its place. Each
    option that is not given is read from ``AIOQ_OTEL_*``, ``AIOQ_OTEL_LINK_AFTER`` for
    ``link_after``. Nothing that breaks in here, or in an SDK, fails a job or an enqueue.

    Args:
        tracer_provider: the global one by default.
        meter_provider: the global one by default.
        relationship: of an attempt to the span of its enqueue. ``auto``: its child where the
            attempt was due within ``link_after`` seconds of the enqueue, else a trace of its own;
            ``child`` and ``link`` (a trace of its own): always. Each of them adds a link.
            ``none``: neither parent nor link.
        link_after: seconds, for ``auto``; 60.
        span_name: ``task``, or ``queue``: what follows ``enqueue`` and ``process``.
        queue_metrics: whether a worker counts the store's jobs; None leaves it to the living
            worker with the lowest id.
        create_spans: give each job of an ``enqueue_many`` a span of its own.
        retry_status: ``unset`` leaves the status of attempts alone that will be retried; ``error``.
        baggage: take the caller's baggage along, and so into the store.
        error_messages: tell messages and tracebacks of exceptions, not only their types.
        exclude: tasks without spans, as patterns (``*.heartbeat``); context passes through them.
        trace_internal: let instrumented drivers trace aioq's own calls of the store.

    Raises:
        InvalidOption: an option, or a variable, has an impossible value.
    """

    order = Order.TRACE

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        relationship: Relationship | None = None,
        link_after: float | None = None,
        span_name: SpanName | None = None,
        queue_metrics: bool | None = None,
        create_spans: bool | None = None,
        retry_status: RetryStatus | None = None,
        baggage: bool | None = None,
        error_messages: bool | None = None,
        exclude: str | Iterable[str] | None = None,
        trace_internal: bool | None = None,
    ) -> None:
        self._options = Options.read(
            {
                "relationship": relationship,
                "link_after": link_after,
                "span_name": span_name,
                "queue_metrics": queue_metrics,
                "create_spans": create_spans,
                "retry_status": retry_status,
                "baggage": baggage,
                "error_messages": error_messages,
                "exclude": exclude,
                "trace_internal": trace_internal,
            }
        )
        self._providers = (tracer_provider, meter_provider)
        self._told = False
        self._trace(None)

    def _trace(self, app: Aarq | None) -> None:
        self._telemetry = Telemetry(self._options, *self._providers, app)
        self._enqueues = Enqueues(self._telemetry)
        self._attempts = Attempts(self._telemetry)

    # -- the layer ---------------------------------------------------------------------------------

    def background(self, app: Aarq) -> None:
        self._trace(app)
        if not self._options.trace_internal:
            current.attach(SUPPRESSED)

    async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
        sending = self._begin(self._enqueues, jobs)
        if sending is None:
            await call_next(jobs)
            return
        try:
            await call_next(jobs)
        except BaseException as exc:
            self._end(self._enqueues, jobs, sending, exc)
            raise
        self._end(self._enqueues, jobs, sending, None)

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        running = self._begin(self._attempts, job)
        if running is None:
            return await call_next(job)
        try:
            value = await call_next(job)
        except BaseException as exc:
            self._end(self._attempts, job, running, exc)
            raise
        self._end(self._attempts, job, running, None)
        return value

    def _begin(self, part: _Part[Subject, Begun], subject: Subject) -> Begun | None:
        """None when it broke, when tracing was switched off, or when nobody listens."""
        if switch.uninstrumented:
            return None
        try:
            return part.begin(subject)
        except Exception:
            self._tell()
            return None

    def _end(
        self,
        part: _Part[Subject, Begun],
        subject: Subject,
        begun: Begun,
        raised: BaseException | None,
    ) -> None:
        try:
            part.end(subject, begun, raised)
        except Exception:
            self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            _log.warning("tracing broke; jobs go on without it", exc_info=True)

    # -- the worker --------------------------------------------------------------------------------

    def lifespan(self, app: Aarq) -> AbstractAsyncContextManager[None]:
        return self._working(app)

    @asynccontextmanager
    async def _working(self, app: Aarq) -> AsyncGenerator[None, None]:
        worker = current_worker()
        assert worker is not None, "a lifespan is a worker's"
        snapshot = Snapshot(
            {names.MESSAGING_SYSTEM: names.SYSTEM, **server_of(app.broker.url)}, PERIOD
        )
        instruments = self._telemetry.instruments
        mode = self._options.queue_metrics
        instruments.worker_starts(worker.id, worker.queues, worker.concurrency)
        if mode != "off":
            instruments.watch(snapshot)
        reporter = Reporter(app.broker, snapshot, mode, worker.id)
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                if mode != "off":
                    group.start_soon(self._report, reporter)
                try:
                    yield
                except Exception as exc:
                    failure = exc  # as it is, not in the group's wrapping
                group.cancel_scope.cancel()
            if failure is not None:
                raise failure
        finally:
            if mode != "off":
                instruments.unwatch(snapshot)
            try:
                await flush(self._telemetry.providers())
            finally:
                instruments.worker_stops(worker.id)

    async def _report(self, reporter: Reporter) -> None:
        current.attach(SUPPRESSED)  # in this task alone
        await reporter.run()
