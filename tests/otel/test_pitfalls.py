"""What goes wrong elsewhere: contexts that leak, spans that stay open, plugins that break jobs."""

import gc
import linecache
import logging
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import StatusCode
from otel.conftest import Traced

from aioq import Aarq, Context, Worker, WorkerOptions
from aioq.backends import MemoryBroker
from aioq_otel import TracingMiddleware
from aioq_otel.structlog import add_trace_context

Ctx = Context[Any]


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


async def test_a_worker_started_inside_a_span_inherits_nothing(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None: ...

    await task.options(job_id="01890a5d-ac96-774b-bcce-b302099a8057").enqueue()
    with traced.tracer.start_as_current_span("main"):
        await traced.work()
    main, process = traced.one("main"), traced.one("process t")
    assert trace_of(main) != trace_of(process)
    assert "detach" not in caplog.text


async def test_a_failed_attempt_leaves_no_span_open(traced: Traced) -> None:
    @traced.app.task(name="flaky", retries=1, retry_delay=1)
    async def flaky(ctx: Ctx) -> None:
        raise ValueError

    @traced.app.task(name="next")
    async def after(ctx: Ctx) -> None: ...

    await flaky.enqueue()
    await traced.work()
    await after.enqueue()
    await traced.work(after=5)
    assert trace_of(traced.one("process next")) == trace_of(traced.one("enqueue next"))
    assert trace_of(traced.one("process next")) != trace_of(traced.named("process flaky")[0])


async def test_sampling_is_decided_anew_for_each_trace(
    trace_with: Callable[..., Traced],
) -> None:
    class Alternating(Sampler):
        """Every second root; children follow their parents."""

        def __init__(self) -> None:
            self.roots = 0

        def should_sample(self, parent_context: Any, *args: Any, **kwargs: Any) -> SamplingResult:
            parent = trace.get_current_span(parent_context).get_span_context()
            if parent.is_valid:
                keep = parent.trace_flags.sampled
            else:
                self.roots += 1
                keep = self.roots % 2 == 0
            return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.DROP)

        def get_description(self) -> str:
            return "every second root"

    traced = trace_with(sampler=Alternating())
    headers: list[str] = []

    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None:
        headers.append(ctx.headers["traceparent"])

    for _ in range(4):
        await task.enqueue()
        await traced.work()
    assert [text[-2] for text in headers] == ["0"] * 4
    sampled = [int(text[-2:], 16) & 1 for text in headers]
    assert sampled == [0, 1, 0, 1], "told to workers also where it is not sampled"
    assert len(traced.named("process t")) == 2


async def test_two_jobs_at_once_do_not_see_each_others_spans(traced: Traced) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Ctx, n: int) -> None:
        span = trace.get_current_span()
        await anyio.lowlevel.checkpoint()
        assert trace.get_current_span() is span
        seen.add(span.get_span_context().span_id)

    seen: set[int] = set()
    await traced.app.enqueue_many([task.job(n) for n in range(50)])
    await traced.work()
    assert len(seen) == 50


async def test_the_failure_log_lies_inside_the_span(traced: Traced) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None:
        raise ValueError("boom")

    lines: list[dict[str, Any]] = []

    def keep(_: Any, __: Any, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, add_trace_context, keep]
    )
    try:
        await task.enqueue()
        await traced.work()
    finally:
        structlog.reset_defaults()
    span = traced.one("process t")
    assert span.context is not None
    (line,) = [line for line in lines if line["event"] == "job.failed"]
    assert line["trace_id"] == trace.format_trace_id(span.context.trace_id)
    assert line["span_id"] == trace.format_span_id(span.context.span_id)
    assert line["trace_flags"] == f"{span.context.trace_flags:02x}"
    assert all("trace_id" not in line for line in lines if line["event"].startswith("worker."))


class Breaks(SpanProcessor):
    """Breaks wherever it is asked."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("start")

    def on_end(self, span: Any) -> None:
        raise RuntimeError("end")

    def force_flush(self, timeout_millis: int = 0) -> bool:
        raise RuntimeError("flush")


class BreaksAtTheEnd(Breaks):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Not yet."""


@pytest.mark.parametrize("broken", [Breaks(), BreaksAtTheEnd()], ids=["start", "end"])
async def test_a_broken_sdk_fails_no_job(
    traced: Traced, caplog: pytest.LogCaptureFixture, broken: SpanProcessor
) -> None:
    traced.provider.add_span_processor(broken)

    @traced.app.task(name="good", save_result=True)
    async def good(ctx: Ctx, n: int) -> int:
        return n

    @traced.app.task(name="bad")
    async def bad(ctx: Ctx) -> None:
        raise ValueError("boom")

    with caplog.at_level(logging.WARNING, "aioq.otel"):
        jobs = [await good.enqueue(n) for n in range(3)]
        failed = await bad.enqueue()
        await traced.work()
    assert [await job.wait(30) for job in jobs] == [0, 1, 2]
    assert (await failed.refresh()).error == "ValueError: boom"
    told = [record.message for record in caplog.records if record.name == "aioq.otel"]
    assert told[0] == "tracing broke; jobs go on without it"
    assert len(told) == len(set(told)), "each is told once"


async def test_an_exporter_that_hangs_holds_no_worker_up(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aioq_otel._flush.LONGEST", 0.05)
    never = threading.Event()

    class Hangs(BreaksAtTheEnd):
        def on_end(self, span: Any) -> None:
            """Kept."""

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return never.wait(60)

    traced.provider.add_span_processor(Hangs())
    try:
        with anyio.fail_after(30):
            await traced.work()
    finally:
        never.set()
    assert "not all that was collected could be exported in 0.05 s" in caplog.text


def test_jobs_on_trio_are_traced_as_well(traced: Traced) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Ctx) -> None:
        await anyio.lowlevel.checkpoint()
        assert trace.get_current_span().is_recording()

    async def main() -> None:
        with traced.tracer.start_as_current_span("request"):
            await task.enqueue()
        await traced.work()

    anyio.run(main, backend="trio")
    assert [span.name for span in traced.spans] == ["request", "enqueue t", "process t"]
    assert len({trace_of(span) for span in traced.spans}) == 1


async def test_what_breaks_in_a_worker_comes_out_as_it_is(traced: Traced) -> None:
    """The layer's own tasks wrap nobody's errors."""

    def broken(app: Aarq) -> Any:
        raise LookupError("no pool")

    traced.app.lifespan = broken
    with pytest.raises(LookupError, match="no pool"):
        await traced.work()


async def test_jobs_leave_nothing_behind(traced: Traced) -> None:
    @traced.app.task(name="t", retries=1, retry_delay=0)
    async def task(ctx: Ctx, n: int) -> None:
        if n % 5 == 0:
            raise ValueError(n)

    others = [
        tracemalloc.Filter(False, "*/aioq/_memory/*"),  # the store, which tidies up now and then
        tracemalloc.Filter(False, linecache.__file__),
        tracemalloc.Filter(False, tracemalloc.__file__),
    ]

    async def held_after(jobs: int) -> int:
        """Bytes of all that this process holds once so many more are done."""
        for n in range(jobs):
            await task.enqueue(n)
        await traced.work()
        assert len(traced.named("process t")) == jobs * 6 // 5
        traced.exporter.clear()
        await traced.broker.purge("default")
        traced.points()
        gc.collect()
        found = tracemalloc.take_snapshot().filter_traces(others).statistics("filename")
        return sum(statistic.size for statistic in found)

    tracemalloc.start()
    try:
        held = [await held_after(500)]
        # caches fill up in the first rounds; what is kept of each job comes anew in all of them
        while len(held) < 6:
            held.append(await held_after(500))
            if held[-1] - held[-2] < 500 * 10:
                break
        else:
            raise AssertionError(f"each 500 jobs leave more than 10 bytes a job: {held}")
    finally:
        tracemalloc.stop()
    assert not traced.layer._telemetry.instruments.active


@pytest.mark.parametrize("internal", [False, True])
async def test_drivers_are_kept_quiet_in_its_own_work_and_not_in_jobs(internal: bool) -> None:
    in_store: set[bool] = set()
    in_job: set[bool] = set()

    class Asks(MemoryBroker):
        async def claim(self, *args: Any, **kwargs: Any) -> Any:
            in_store.add(is_instrumentation_enabled())
            return await super().claim(*args, **kwargs)

        async def enqueue(self, *args: Any, **kwargs: Any) -> Any:
            in_store.add(is_instrumentation_enabled())
            return await super().enqueue(*args, **kwargs)

        async def settle(self, *args: Any, **kwargs: Any) -> Any:
            in_store.add(is_instrumentation_enabled())
            return await super().settle(*args, **kwargs)

    app = Aarq(Asks(), plugins=False)
    app.use(TracingMiddleware(trace_internal=internal))

    @app.task(name="t")
    async def task(ctx: Ctx) -> None:
        in_job.add(is_instrumentation_enabled())

    await task.enqueue()
    assert is_instrumentation_enabled()
    await Worker(app, WorkerOptions(burst=True)).run()
    assert (in_store, in_job) == ({internal}, {True})


async def test_a_cancelled_attempt_is_told_so(traced: Traced) -> None:
    begun = anyio.Event()

    @traced.app.task(name="endless")
    async def endless(ctx: Ctx) -> None:
        begun.set()
        await anyio.sleep_forever()

    job = await endless.enqueue()
    async with anyio.create_task_group() as group:
        group.start_soon(traced.work)
        await begun.wait()
        await job.cancel()
    span = traced.one("process endless")
    assert (span.attributes or {})["aioq.job.outcome"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET
