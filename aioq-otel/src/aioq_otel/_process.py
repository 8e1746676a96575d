"""The span around an attempt."""

from contextvars import Token
from functools import lru_cache
from time import perf_counter
from typing import Any, Final, NamedTuple

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind

from aioq.middleware import RunningJob
from aioq_otel import _names as names
from aioq_otel._errors import Ending, Outcome, ending_of, mark, type_of
from aioq_otel._propagation import crashes_before, leave, previous_attempt, span_of
from aioq_otel._tally import Attributes, Count
from aioq_otel._telemetry import Telemetry

__all__ = ["Attempts"]

MOST_KINDS: Final = 1_000


class _Kind(NamedTuple):
    """What is the same for all jobs of a task in a queue."""

    span_name: str
    traced: bool
    attributes: dict[str, Any]
    measured: Attributes
    waited: Attributes
    consumed: Attributes
    begun: Count


class Running(NamedTuple):
    """An attempt that was begun: what its end needs."""

    span: Span | None
    token: Token[Context] | None
    measures: bool
    started: float


class Attempts:
    """Begins and ends spans of attempts, and counts them."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._options = telemetry.options
        self._kind = lru_cache(MOST_KINDS)(self._new_kind)
        self._measured = lru_cache(MOST_KINDS)(self._new_measured)

    def begin(self, job: RunningJob) -> Running | None:
        """Start the span, and make it the current one in this task.

        None where there is nothing to end.
        """
        telemetry = self._telemetry
        traces, measures = telemetry.traces(), telemetry.measures()
        if not (traces or measures or job.headers or job.crashes):
            return None
        kind = self._kind(job.task_name, job.queue)
        wait_time = job.wait_time
        if measures:
            kind.begun.add(1)
            if job.crashes and crashes_before(job):
                telemetry.instruments.lost.add(1, kind.consumed)
        context, links = self._relation(job)
        span = None
        if traces and kind.traced:
            # neither exceptions nor the status: its end tells both
            span = telemetry.tracer.start_span(
                kind.span_name,
                context,
                SpanKind.CONSUMER,
                self._attributes(kind, job, wait_time),
                links,
                None,
                False,
                False,
            )
            context = trace.set_span_in_context(span, context)
        token = current.attach(context) if context else None
        if measures:
            # inside the span, so that the figure leads to it
            telemetry.instruments.wait.record(wait_time, kind.waited)
        telemetry.instruments.active[job.worker_id] += 1
        return Running(span, token, measures, perf_counter())

    def end(self, job: RunningJob, running: Running, raised: BaseException | None) -> None:
        """End what ``begin`` began, in the same task."""
        seconds = perf_counter() - running.started
        self._telemetry.instruments.active[job.worker_id] -= 1
        ending = _SUCCESS if raised is None else ending_of(job, raised)
        try:
            if raised is not None:
                leave(job, (running.span or INVALID_SPAN).get_span_context())
            if running.measures:
                kind = None if ending.error is None else type_of(ending.error)
                self._telemetry.instruments.process.record(
                    seconds, self._measured(job.task_name, job.queue, ending.outcome, kind)
                )
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
        context = self._telemetry.propagation.extract(job.headers)
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

    def _attributes(self, kind: _Kind, job: RunningJob, wait_time: float) -> dict[str, Any]:
        attributes = kind.attributes.copy()
        attributes[names.MESSAGE_ID] = job.id
        attributes[names.CLIENT_ID] = job.worker_id
        attributes[names.ATTEMPT] = job.attempt
        attributes[names.MAX_ATTEMPTS] = job.max_retries + 1
        attributes[names.WAIT_TIME] = wait_time
        attributes[names.TRIGGER] = "retry" if job.retries else "api"
        if job.crashes:
            attributes[names.CRASHES] = job.crashes
        return attributes

    def _new_measured(
        self, task: str, queue: str, outcome: Outcome, error: str | None
    ) -> Attributes:
        measured = {**self._kind(task, queue).measured, names.OUTCOME: outcome}
        return measured if error is None else {**measured, names.ERROR_TYPE: error}

    def _new_kind(self, task: str, queue: str) -> _Kind:
        named_by = task if self._options.span_name == "task" else queue
        consumed = {
            names.MESSAGING_SYSTEM: names.SYSTEM,
            names.OPERATION_NAME: "process",
            names.DESTINATION: queue,
            **self._telemetry.server,
        }
        measured = {**consumed, names.JOB_NAME: task}
        waited = {**measured}
        del waited[names.OPERATION_NAME]  # nothing operates on a job that waits
        attributes = {**measured, names.OPERATION_TYPE: "process"}
        app = self._telemetry.app
        if app is not None and task in app.tasks:
            fn = app.tasks[task].fn
            attributes[names.FUNCTION] = f"{fn.__module__}.{fn.__qualname__}"
        return _Kind(
            f"process {named_by}",
            not self._options.excludes(task),
            attributes,
            measured,
            waited,
            consumed,
            self._telemetry.instruments.consumed.of(consumed),
        )


_NOWHERE: Final = Context()
_CREATION: Final = {names.LINK_TYPE: "creation"}
_SUCCESS: Final = Ending("success")
