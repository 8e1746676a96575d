"""The span around an enqueue."""

from collections import Counter
from collections.abc import Sequence
from contextvars import Token
from functools import lru_cache
from time import perf_counter
from typing import Any, Final, NamedTuple

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from aioq import Job
from aioq.errors import EnqueueManyError, JobExists
from aioq_otel import _names as names
from aioq_otel._errors import mark, type_of
from aioq_otel._tally import Attributes, Count
from aioq_otel._telemetry import Telemetry

__all__ = ["Enqueues"]

MOST_KINDS: Final = 1_000
MOST_LINKS: Final = 128
"""What the SDK keeps."""

Jobs = Sequence[Job[Any]]


class _Kind(NamedTuple):
    """What is the same for all jobs of a task in a queue."""

    span_name: str
    attributes: dict[str, Any]


class Sending(NamedTuple):
    """An enqueue that was begun: what its end needs."""

    span: Span | None
    token: Token[Context] | None
    measures: bool
    started: float


class Enqueues:
    """Begins and ends spans of enqueues, puts their context into the jobs, and counts."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._options = telemetry.options
        self._base: dict[str, Any] = {names.MESSAGING_SYSTEM: names.SYSTEM, **telemetry.server}
        self._kind = lru_cache(MOST_KINDS)(self._new_kind)
        self._measured = lru_cache(MOST_KINDS)(self._new_measured)
        self._sent = lru_cache(MOST_KINDS)(self._new_sent)

    def begin(self, jobs: Jobs) -> Sending | None:
        """Start the span, make it the current one, and put its context into the jobs.

        None where there is nothing to end.
        """
        telemetry = self._telemetry
        if not telemetry.traces() or (self._options.exclude and self._excluded(jobs)):
            context = current.get_current()
            if context:
                self._put(jobs, context)
            return Sending(None, None, True, perf_counter()) if telemetry.measures() else None
        if len(jobs) == 1:
            span = self._one("enqueue", jobs[0])
        elif self._options.create_spans:
            span = self._each(jobs)
        else:
            span = self._start(*self._many(jobs), SpanKind.PRODUCER)
        context = trace.set_span_in_context(span)
        if len(jobs) == 1 or not self._options.create_spans:
            self._put(jobs, context)
        return Sending(span, current.attach(context), telemetry.measures(), perf_counter())

    def end(self, jobs: Jobs, sending: Sending, raised: BaseException | None) -> None:
        """End what ``begin`` began, in the same task."""
        seconds = perf_counter() - sending.started
        error = None if raised is None else _error_of(raised)
        try:
            if sending.measures:
                self._count(jobs, seconds, raised, error)
        finally:
            try:
                if sending.span is not None:
                    self._end_span(jobs, sending.span, raised, error)
            finally:
                if sending.token is not None and not isinstance(raised, GeneratorExit):
                    current.detach(sending.token)

    def _end_span(
        self, jobs: Jobs, span: Span, raised: BaseException | None, error: BaseException | None
    ) -> None:
        try:
            if span.is_recording():
                if len(jobs) == 1 and (delay := _delay(jobs[0])):
                    span.set_attribute(names.DELAY, delay)
                if error is not None:
                    mark(span, error, with_message=self._options.error_messages)
                elif isinstance(raised, Exception):
                    span.set_attribute(names.DEDUPLICATED, True)
        finally:
            span.end()

    def _excluded(self, jobs: Jobs) -> bool:
        return all(self._options.excludes(job.task_name) for job in jobs)

    # -- spans -------------------------------------------------------------------------------------

    def _one(self, operation: str, job: Job[Any]) -> Span:
        kind = self._kind(operation, job.task_name, job.queue)
        attributes = kind.attributes.copy()
        attributes[names.MESSAGE_ID] = job.id
        if job.priority:
            attributes[names.PRIORITY] = job.priority
        return self._start(kind.span_name, attributes, SpanKind.PRODUCER)

    def _many(self, jobs: Jobs) -> tuple[str, dict[str, Any]]:
        queues = {job.queue for job in jobs}
        attributes = self._operation("enqueue", "send")
        attributes[names.BATCH_COUNT] = len(jobs)
        if len(queues) > 1:
            return "enqueue", attributes
        (attributes[names.DESTINATION],) = queues
        return f"enqueue {attributes[names.DESTINATION]}", attributes

    def _each(self, jobs: Jobs) -> Span:
        """A span for each job, whose context it takes along, and one that links to all of them.
        Jobs without spans take the caller's context along."""
        links: list[Link] = []
        excluded = 0
        for job in jobs:
            if self._options.exclude and self._options.excludes(job.task_name):
                excluded += 1
                self._put([job], current.get_current())
                continue
            span = self._one("create", job)
            self._put([job], trace.set_span_in_context(span))
            span.end()
            if len(links) < MOST_LINKS:
                linked = {names.MESSAGE_ID: job.id, names.LINK_TYPE: "creation"}
                links.append(Link(span.get_span_context(), linked))
        name, attributes = self._many(jobs)
        dropped = len(jobs) - excluded - len(links)
        if dropped:
            attributes[names.LINKS_DROPPED] = dropped
        return self._start(name, attributes, SpanKind.CLIENT, links)

    def _new_kind(self, operation: str, task: str, queue: str) -> _Kind:
        named_by = task if self._options.span_name == "task" else queue
        attributes = self._operation(operation, "send" if operation == "enqueue" else operation)
        attributes[names.DESTINATION] = queue
        attributes[names.JOB_NAME] = task
        attributes[names.TRIGGER] = "api"
        return _Kind(f"{operation} {named_by}", attributes)

    def _operation(self, name: str, kind: str) -> dict[str, Any]:
        return {**self._base, names.OPERATION_NAME: name, names.OPERATION_TYPE: kind}

    def _start(
        self, name: str, attributes: dict[str, Any], kind: SpanKind, links: Sequence[Link] = ()
    ) -> Span:
        # neither exceptions nor the status: its end tells both
        return self._telemetry.tracer.start_span(
            name, None, kind, attributes, links, None, False, False
        )

    def _put(self, jobs: Jobs, context: Context) -> None:
        propagation = self._telemetry.propagation
        carrier = propagation.carrier(context)
        if carrier:
            for job in jobs:
                propagation.put(carrier, job.headers)

    # -- counts ------------------------------------------------------------------------------------

    def _count(
        self,
        jobs: Jobs,
        seconds: float,
        raised: BaseException | None,
        error: BaseException | None,
    ) -> None:
        """The call once for each of its queues, the jobs by what became of each."""
        kind = None if error is None else type_of(error)
        record = self._telemetry.instruments.operation.record
        if len(jobs) == 1:
            queue = jobs[0].queue
            self._sent(queue, kind).add(1)
            record(seconds, self._measured(queue, kind))
            return
        if isinstance(raised, EnqueueManyError):
            sent = Counter((job.queue, _refusal(raised.errors.get(job.id))) for job in jobs)
        else:
            sent = Counter((job.queue, kind) for job in jobs)
        for (queue, refused), count in sent.items():
            self._sent(queue, refused).add(count)
        for queue in {job.queue for job in jobs}:
            record(seconds, self._measured(queue, kind))

    def _new_measured(self, queue: str, error: str | None) -> Attributes:
        measured = {**self._operation("enqueue", "send"), names.DESTINATION: queue}
        return measured if error is None else {**measured, names.ERROR_TYPE: error}

    def _new_sent(self, queue: str, error: str | None) -> Count:
        return self._telemetry.instruments.sent.of(self._measured(queue, error))


def _error_of(raised: BaseException) -> BaseException | None:
    """What went wrong; nothing did where all ids were taken, which a caller may well expect."""
    if isinstance(raised, EnqueueManyError):
        errors = [each for each in raised.errors.values() if not isinstance(each, JobExists)]
        return errors[0] if errors else None
    return None if isinstance(raised, JobExists) or not isinstance(raised, Exception) else raised


def _refusal(error: BaseException | None) -> str | None:
    """The type of what one job of a call was refused by."""
    return None if error is None or isinstance(error, JobExists) else type_of(error)


def _delay(job: Job[Any]) -> float:
    """Seconds from the enqueue until it is due."""
    if job.status != "scheduled" or job.run_at is None or job.enqueued_at is None:
        return 0.0
    return (job.run_at - job.enqueued_at).total_seconds()
