"""The span around an attempt."""

from collections.abc import Callable
from contextvars import Token
from time import perf_counter
from typing import Any, Final, NamedTuple

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Tracer

from aioq.middleware import RunningJob
from aioq_otel import _names as names
from aioq_otel._errors import Ending, ending_of, mark, type_of
from aioq_otel._metrics import Attributes, Instruments
from aioq_otel._options import Options
from aioq_otel._propagation import Propagation, crashes_before, leave, previous_attempt, span_of

__all__ = ["Attempts"]

MOST_KINDS: Final = 1_000


class _Kind(NamedTuple):
    """What is the same for all jobs of a task in a queue."""

    span_name: str
    traced: bool
    attributes: dict[str, Any]
    consumed: Attributes
    wait: Attributes
    process: dict[str, Attributes]
    """By outcome, of attempts without an error."""


class Running(NamedTuple):
    """An attempt that was begun: what its end needs."""

    kind: _Kind
    span: Span | None
    token: Token[Context] | None
    started: float


class Attempts:
    """Begins and ends spans of attempts, and counts them.

    Args:
        tracer: makes the spans.
        instruments: counts.
        options: as chosen.
        propagation: reads headers.
        server: the store's address.
        recording: whether anybody listens to spans.
    """

    def __init__(
        self,
        tracer: Tracer,
        instruments: Instruments,
        options: Options,
        propagation: Propagation,
        server: Attributes,
        recording: Callable[[], bool],
    ) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._options = options
        self._propagation = propagation
        self._server = server
        self._recording = recording
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def begin(self, job: RunningJob) -> Running:
        """Start the span, and make it the current one in this task."""
        kind = self._kind(job)
        instruments = self._instruments
        instruments.consumed.add(1, kind.consumed)
        if job.crashes and crashes_before(job):
            instruments.lost.add(1, kind.consumed)
        context, links = self._relation(job)
        span = None
        if kind.traced and self._recording():
            span = self._tracer.start_span(
                kind.span_name,
                context,
                SpanKind.CONSUMER,
                self._attributes(kind, job),
                links,
                record_exception=False,
                set_status_on_exception=False,
            )
            context = trace.set_span_in_context(span, context)
        token = current.attach(context) if context else None
        # inside the span, so that the figure leads to it
        instruments.wait.record(job.wait_time, kind.wait)
        instruments.active[job.worker_id] += 1
        return Running(kind, span, token, perf_counter())

    def end(self, job: RunningJob, running: Running, raised: BaseException | None) -> None:
        """End what ``begin`` began, in the same task."""
        seconds = perf_counter() - running.started
        self._instruments.active[job.worker_id] -= 1
        ending = _SUCCESS if raised is None else ending_of(job, raised)
        try:
            if raised is not None:
                leave(job, (running.span or INVALID_SPAN).get_span_context())
            self._instruments.process.record(seconds, self._measured(running.kind, ending))
        finally:
            try:
                if running.span is not None:
                    self._end_span(running.span, ending)
            finally:
                # a coroutine that is closed ends in another context than it began in
                if running.token is not None and not isinstance(raised, GeneratorExit):
                    current.detach(running.token)

    def _end_span(self, span: Span, ending: Ending) -> None:
        try:
            if span.is_recording():
                span.set_attribute(names.OUTCOME, ending.outcome)
                if ending.error is not None:
                    self._mark(span, ending)
        finally:
            span.end()

    def _mark(self, span: Span, ending: Ending) -> None:
        assert ending.error is not None
        if ending.outcome == "retry" and self._options.retry_status == "unset":
            span.set_attribute(names.ERROR_TYPE, type_of(ending.error))
        else:
            mark(span, ending.error, with_message=self._options.error_messages)

    def _relation(self, job: RunningJob) -> tuple[Context, list[Link]]:
        """The context to start in, and what the span points to."""
        options = self._options
        if options.relationship == "none":
            return _NOWHERE, []
        context = self._propagation.extract(job.headers)
        links: list[Link] = []
        creation = span_of(context) if context else None
        if creation is not None and creation.is_valid:
            links.append(Link(creation, _CREATION))
            if not self._is_child(job):
                # a new trace, with the baggage of the old one
                context = trace.set_span_in_context(INVALID_SPAN, context)
        if job.carried and (previous := previous_attempt(job)) is not None:
            links.append(previous)
        return context, links

    def _is_child(self, job: RunningJob) -> bool:
        match self._options.relationship:
            case "auto":
                # what was meant when it was enqueued, or retried; not how late a backlog made it
                return job.due_after <= self._options.link_after
            case relationship:
                return relationship == "child"

    def _attributes(self, kind: _Kind, job: RunningJob) -> dict[str, Any]:
        attributes = kind.attributes.copy()
        attributes[names.MESSAGE_ID] = job.id
        attributes[names.CLIENT_ID] = job.worker_id
        attributes[names.ATTEMPT] = job.attempt
        attributes[names.MAX_ATTEMPTS] = job.max_retries + 1
        attributes[names.WAIT_TIME] = job.wait_time
        attributes[names.TRIGGER] = "retry" if job.retries else "api"
        if job.crashes:
            attributes[names.CRASHES] = job.crashes
        return attributes

    def _measured(self, kind: _Kind, ending: Ending) -> Attributes:
        if ending.error is None:
            found = kind.process.get(ending.outcome)
            if found is None:
                found = {**kind.wait, names.OUTCOME: ending.outcome}
                kind.process[ending.outcome] = found
            return found
        return {
            **kind.wait,
            names.OUTCOME: ending.outcome,
            names.ERROR_TYPE: type_of(ending.error),
        }

    def _kind(self, job: RunningJob) -> _Kind:
        key = (job.task_name, job.queue)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MOST_KINDS:
                self._kinds.clear()
            kind = self._kinds[key] = self._new_kind(job)
        return kind

    def _new_kind(self, job: RunningJob) -> _Kind:
        named_by = job.task_name if self._options.span_name == "task" else job.queue
        consumed = {
            names.MESSAGING_SYSTEM: names.SYSTEM,
            names.OPERATION_NAME: "process",
            names.DESTINATION: job.queue,
            **self._server,
        }
        measured = {**consumed, names.JOB_NAME: job.task_name}
        attributes = {**measured, names.OPERATION_TYPE: "process"}
        app = job.ctx.get("app")
        if app is not None:
            fn = app.get_task(job.task_name).fn
            attributes[names.FUNCTION] = f"{fn.__module__}.{fn.__qualname__}"
        return _Kind(
            f"process {named_by}",
            not self._options.excludes(job.task_name),
            attributes,
            consumed,
            measured,
            {},
        )


_NOWHERE: Final = Context()
_CREATION: Final = {names.LINK_TYPE: "creation"}
_SUCCESS: Final = Ending("success")
