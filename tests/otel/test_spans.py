"""Every row of the table of spans: names, kinds, attributes, parents and links."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as current
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from otel.conftest import Traced

from aioq import Abort, Context, Retry, Snooze
from aioq.errors import EnqueueManyError, JobExists

JOB_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
Ctx = Context[Any]


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return (span.parent.trace_id, span.parent.span_id) if span.parent else None


def links(span: ReadableSpan) -> list[tuple[str, tuple[int, int]]]:
    return [
        (
            str((link.attributes or {})["aioq.link.type"]),
            (link.context.trace_id, link.context.span_id),
        )
        for link in span.links
    ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_one_job_from_the_request_to_its_attempt(traced: Traced) -> None:
    @traced.app.task(name="send_mail", queue="mail", priority=3)
    async def send_mail(ctx: Ctx) -> None:
        with traced.tracer.start_as_current_span("smtp"):
            await anyio.lowlevel.checkpoint()

    with traced.tracer.start_as_current_span("GET /signup"):
        job = await send_mail.enqueue()
    await traced.work(after=2)
    request, enqueue, process, own = (
        traced.one(name)
        for name in ("GET /signup", "enqueue send_mail", "process send_mail", "smtp")
    )
    assert (enqueue.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert parent(enqueue) == ids(request)
    assert parent(process) == ids(enqueue)
    assert parent(own) == ids(process)
    assert links(process) == [("creation", ids(enqueue))]
    assert enqueue.instrumentation_scope is not None
    assert enqueue.instrumentation_scope.name == "aioq_otel"
    assert enqueue.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert attributes(enqueue) == {
        "messaging.system": "aioq",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "aioq.job.name": "send_mail",
        "aioq.job.trigger": "api",
        "aioq.job.priority": 3,
    }
    seen = attributes(process)
    assert len(seen.pop("messaging.client.id")) == 36
    assert seen.pop("code.function.name").endswith("<locals>.send_mail")
    assert seen == {
        "messaging.system": "aioq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "aioq.job.name": "send_mail",
        "aioq.job.attempt": 1,
        "aioq.job.max_attempts": 1,
        "aioq.job.outcome": "success",
        "aioq.job.trigger": "api",
        "aioq.job.wait_time": 2.0,
    }
    assert {enqueue.status.status_code, process.status.status_code} == {StatusCode.UNSET}


@pytest.mark.parametrize(
    ("relationship", "delay", "child"),
    [
        ("auto", 60, True),
        ("auto", 61, False),
        ("child", 3600, True),
        ("link", 0, False),
    ],
)
async def test_a_job_is_a_child_or_a_trace_of_its_own_as_it_was_meant(
    trace_with: Callable[..., Traced], relationship: str, delay: int, child: bool
) -> None:
    traced = trace_with(relationship=relationship)

    @traced.app.task(name="later")
    async def later(ctx: Ctx) -> None:
        seen.append(baggage.get_baggage("tenant"))

    seen: list[Any] = []
    token = current.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with traced.tracer.start_as_current_span("request"):
            await later.options(delay=delay).enqueue()
    finally:
        current.detach(token)
    await traced.work(after=delay + 500)  # however late the backlog makes it
    enqueue, process = traced.one("enqueue later"), traced.one("process later")
    assert attributes(enqueue).get("aioq.job.delay") == (delay or None)
    assert links(process) == [("creation", ids(enqueue))]
    assert parent(process) == (ids(enqueue) if child else None)
    assert (ids(process)[0] == ids(enqueue)[0]) is child
    assert seen == ["acme"]


async def test_no_relation_is_an_option(trace_with: Callable[..., Traced]) -> None:
    traced = trace_with(relationship="none")

    @traced.app.task(name="t", retries=1, retry_delay=1)
    async def task(ctx: Ctx) -> None:
        raise ValueError

    await task.enqueue()
    await traced.work()
    await traced.work(after=1)
    for process in traced.named("process t"):
        assert (parent(process), links(process)) == (None, [])


async def test_each_attempt_links_to_the_one_before(traced: Traced) -> None:
    @traced.app.task(name="flaky", retries=2, retry_delay=1, backoff=300)
    async def flaky(ctx: Ctx) -> None:
        if ctx.attempt < 3:
            raise ValueError("boom")

    with traced.tracer.start_as_current_span("request"):
        await flaky.enqueue()
    for wait in (0, 1, 300):
        await traced.work(after=wait)
    enqueue = traced.one("enqueue flaky")
    first, second, third = traced.named("process flaky")
    assert [attributes(span)["aioq.job.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert [attributes(span)["aioq.job.outcome"] for span in (first, second, third)] == [
        "retry",
        "retry",
        "success",
    ]
    assert [attributes(span)["aioq.job.trigger"] for span in (first, second)] == ["api", "retry"]
    assert parent(first) == parent(second) == ids(enqueue)
    assert parent(third) is None, "it was meant to run 300 s later"
    assert links(first) == [("creation", ids(enqueue))]
    assert links(second) == [("creation", ids(enqueue)), ("previous_attempt", ids(first))]
    assert links(third) == [("creation", ids(enqueue)), ("previous_attempt", ids(second))]
    for span in (first, second):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "boom"
        assert attributes(span)["error.type"] == "ValueError"
        assert [event.name for event in span.events] == ["exception"], "once"
    assert third.status.status_code is StatusCode.UNSET


async def test_many_jobs_share_one_enqueue(traced: Traced) -> None:
    @traced.app.task(name="a")
    async def a(ctx: Ctx) -> None: ...

    @traced.app.task(name="b", queue="other")
    async def b(ctx: Ctx) -> None: ...

    await traced.app.enqueue_many([a.job(), a.job(), a.job()])
    await traced.app.enqueue_many([a.job(), b.job()])
    await traced.work()
    one, two = traced.one("enqueue default"), traced.one("enqueue")
    assert attributes(one)["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in attributes(one)
    assert "messaging.destination.name" not in attributes(two)
    assert {parent(span) for span in traced.named("process a")} == {ids(one), ids(two)}
    assert parent(traced.one("process b")) == ids(two)


async def test_many_jobs_may_have_a_span_each(trace_with: Callable[..., Traced]) -> None:
    traced = trace_with(create_spans=True)

    @traced.app.task(name="a")
    async def a(ctx: Ctx) -> None: ...

    jobs = await traced.app.enqueue_many([a.job() for _ in range(130)])
    await traced.work()
    send, created = traced.one("enqueue default"), traced.named("create a")
    assert (send.kind, {span.kind for span in created}) == (SpanKind.CLIENT, {SpanKind.PRODUCER})
    assert {attributes(span)["messaging.operation.type"] for span in created} == {"create"}
    assert [attributes(span)["messaging.message.id"] for span in created] == [j.id for j in jobs]
    assert [linked for _, linked in links(send)] == [ids(span) for span in created[:128]]
    assert attributes(send)["aioq.links.dropped"] == 2
    assert {parent(span) for span in traced.named("process a")} == {ids(span) for span in created}


async def test_excluded_jobs_of_a_batch_have_no_span_of_their_own(
    trace_with: Callable[..., Traced],
) -> None:
    traced = trace_with(create_spans=True, exclude="beat")

    @traced.app.task(name="beat")
    async def beat(ctx: Ctx) -> None: ...

    @traced.app.task(name="a")
    async def a(ctx: Ctx) -> None: ...

    with traced.tracer.start_as_current_span("request"):
        jobs = await traced.app.enqueue_many([beat.job(), a.job(), beat.job()])
    assert [span.name for span in traced.spans] == ["request", "create a", "enqueue default"]
    created, request = traced.one("create a"), traced.one("request")
    send = traced.one("enqueue default")
    assert [linked for _, linked in links(send)] == [ids(created)]
    assert attributes(send)["messaging.batch.message_count"] == 3
    assert "aioq.links.dropped" not in attributes(send)
    written = [job.headers["traceparent"].split("-")[2] for job in jobs]
    above = [span.get_span_context().span_id for span in (request, created, request)]
    assert written == [f"{span_id:016x}" for span_id in above]


async def test_a_result_that_cannot_be_saved_is_a_failure(traced: Traced) -> None:
    @traced.app.task(name="t", save_result=True, retries=3)
    async def task(ctx: Ctx) -> Any:
        return object()

    job = await task.enqueue()
    await traced.work()
    await job.refresh()
    assert job.status == "failed"
    process = traced.one("process t")
    assert attributes(process)["aioq.job.outcome"] == "failure"
    assert attributes(process)["error.type"] == "aioq.errors.SerializationError"
    (duration,) = traced.points()["messaging.process.duration"]
    assert duration.attributes["aioq.job.outcome"] == "failure"


async def test_an_id_that_is_taken_is_no_error(traced: Traced) -> None:
    @traced.app.task(name="once")
    async def once(ctx: Ctx) -> None: ...

    await once.options(job_id=JOB_ID).enqueue()
    with pytest.raises(JobExists):
        await once.options(job_id=JOB_ID).enqueue()
    _, refused = traced.named("enqueue once")
    assert attributes(refused)["aioq.job.deduplicated"] is True
    assert refused.status.status_code is StatusCode.UNSET
    assert "error.type" not in attributes(refused)


async def test_an_enqueue_that_fails_is_one(traced: Traced) -> None:
    traced.broker.max_payload = 10

    @traced.app.task(name="big")
    async def big(ctx: Ctx, text: str) -> None: ...

    with pytest.raises(Exception, match="limit"):
        await big.enqueue("x" * 100)
    span = traced.one("enqueue big")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "aioq.errors.PayloadTooLarge"


async def test_a_job_enqueues_a_job(traced: Traced) -> None:
    @traced.app.task(name="child")
    async def child(ctx: Ctx) -> None: ...

    @traced.app.task(name="parent")
    async def parent_task(ctx: Ctx) -> None:
        await child.enqueue()

    @traced.app.task(name="plain")
    def plain(ctx: Ctx) -> None:
        child.enqueue_sync()

    for task in (parent_task, plain):
        traced.exporter.clear()
        await task.enqueue()
        await traced.work()
        await traced.work()
        assert parent(traced.one("enqueue child")) == ids(traced.one(f"process {task.name}"))
        assert parent(traced.one("process child")) == ids(traced.one("enqueue child"))


async def test_callers_without_a_loop_are_traced_alike(traced: Traced) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None: ...

    def call() -> None:
        with traced.tracer.start_as_current_span("request"):
            task.enqueue_sync()

    await anyio.to_thread.run_sync(call)
    assert parent(traced.one("enqueue t")) == ids(traced.one("request"))


@pytest.mark.parametrize(
    ("raised", "outcome", "status"),
    [
        (Retry(1), "retry", StatusCode.UNSET),
        (Snooze(1), "snoozed", StatusCode.UNSET),
        (Abort("no use"), "failure", StatusCode.ERROR),
        (KeyError("k"), "failure", StatusCode.ERROR),
    ],
    ids=["retry", "snooze", "abort", "error"],
)
async def test_how_attempts_end(
    traced: Traced, raised: Exception, outcome: str, status: StatusCode
) -> None:
    @traced.app.task(name="t", retries=1, retry_on=OSError)
    async def task(ctx: Ctx) -> None:
        raise raised

    await task.enqueue()
    await traced.work()
    span = traced.one("process t")
    assert (attributes(span)["aioq.job.outcome"], span.status.status_code) == (outcome, status)
    assert ("error.type" in attributes(span)) is (status is StatusCode.ERROR)


async def test_an_attempt_that_took_too_long(traced: Traced) -> None:
    @traced.app.task(name="slow", timeout=0.01)
    async def slow(ctx: Ctx) -> None:
        await anyio.sleep_forever()

    await slow.enqueue()
    await traced.work()
    span = traced.one("process slow")
    assert attributes(span)["aioq.job.outcome"] == "timeout"
    assert attributes(span)["error.type"] == "aioq.errors.TaskTimeout"
    assert span.status.status_code is StatusCode.ERROR


# -- options ---------------------------------------------------------------------------------------


async def test_retries_can_be_left_without_a_status(trace_with: Callable[..., Traced]) -> None:
    traced = trace_with(retry_status="unset")

    @traced.app.task(name="t", retries=1, retry_delay=0)
    async def task(ctx: Ctx) -> None:
        raise ValueError("boom")

    await task.enqueue()
    await traced.work()
    retried, failed = traced.named("process t")
    assert (retried.status.status_code, retried.events) == (StatusCode.UNSET, ())
    assert attributes(retried)["error.type"] == "ValueError"
    assert failed.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("options", "environment", "described", "events"),
    [
        ({}, {}, "boom", 1),
        ({"error_messages": False}, {}, None, 0),
        ({}, {"OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN": "logs"}, "boom", 0),
        ({}, {"OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN": "logs/dup"}, "boom", 1),
    ],
    ids=["plain", "no messages", "logs", "logs and spans"],
)
async def test_what_is_told_of_an_exception(
    trace_with: Callable[..., Traced],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: dict[str, str],
    described: str | None,
    events: int,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    traced = trace_with(**options)

    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None:
        raise ValueError("boom")

    await task.enqueue()
    await traced.work()
    span = traced.one("process t")
    assert (span.status.description, len(span.events)) == (described, events)
    assert attributes(span)["error.type"] == "ValueError"


async def test_spans_may_be_named_after_queues(trace_with: Callable[..., Traced]) -> None:
    traced = trace_with(span_name="queue")

    @traced.app.task(name="t", queue="mail")
    async def task(ctx: Ctx) -> None: ...

    await task.enqueue()
    await traced.work()
    assert [span.name for span in traced.spans] == ["enqueue mail", "process mail"]


async def test_excluded_tasks_pass_the_context_on(trace_with: Callable[..., Traced]) -> None:
    traced = trace_with(exclude="*.beat, nothing")

    @traced.app.task(name="app.beat")
    async def beat(ctx: Ctx) -> None:
        await real.enqueue()

    @traced.app.task(name="real")
    async def real(ctx: Ctx) -> None: ...

    with traced.tracer.start_as_current_span("request"):
        await beat.enqueue()
    await traced.work()
    await traced.work()
    assert [span.name for span in traced.spans] == ["request", "enqueue real", "process real"]
    assert parent(traced.one("enqueue real")) == ids(traced.one("request"))


async def test_baggage_can_be_kept_out_of_the_store(trace_with: Callable[..., Traced]) -> None:
    traced = trace_with(baggage=False)

    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None: ...

    token = current.attach(baggage.set_baggage("tenant", "acme"))
    try:
        job = await task.enqueue()
    finally:
        current.detach(token)
    assert list(job.headers) == ["traceparent"]


async def test_a_trace_context_of_the_callers_own_stays(traced: Traced) -> None:
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None: ...

    job = task.job()
    job.headers["traceparent"] = own
    with traced.tracer.start_as_current_span("request"):
        await traced.app.enqueue_many([job])
    assert job.headers["traceparent"] == own
    await traced.work()
    assert ids(traced.one("process t"))[0] == int("0af7651916cd43dd8448eb211c80319c", 16)


async def test_headers_of_others_are_left_alone(traced: Traced) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None: ...

    job = task.job()
    job.headers["tenant"] = "acme"
    await traced.app.enqueue_many([job])
    assert job.headers.keys() == {"tenant", "traceparent"}


async def test_errors_of_a_batch_are_those_of_its_jobs(traced: Traced) -> None:
    @traced.app.task(name="once")
    async def once(ctx: Ctx) -> None: ...

    await once.options(job_id=JOB_ID).enqueue()
    with pytest.raises(EnqueueManyError):
        await traced.app.enqueue_many([once.options(job_id=JOB_ID).job(), once.job()])
    assert attributes(traced.one("enqueue default"))["aioq.job.deduplicated"] is True


def test_nothing_is_current_outside() -> None:
    assert not trace.get_current_span().get_span_context().is_valid
