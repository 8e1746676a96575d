"""Every metric, and the list of all names that are emitted."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import prometheus_client
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from otel.conftest import Traced

from aioq import Aarq, Context, Job, Middleware, Snooze, Worker, WorkerOptions
from aioq.backends import MemoryBroker
from aioq.errors import EnqueueError, EnqueueManyError, JobExists, PayloadTooLarge
from aioq.middleware import Send
from aioq.plugins import QueueStats, WorkerInfo
from aioq_otel import TracingMiddleware, _queues
from aioq_otel import _names as names
from aioq_otel._metrics import DURATIONS, WAITS, instruments
from aioq_otel._queues import Reporter, Snapshot
from aioq_otel._server import server_of

Ctx = Context[Any]
BASE = {"messaging.system": "aioq"}
SENDING = {
    **BASE,
    "messaging.operation.name": "enqueue",
    "messaging.operation.type": "send",
    "messaging.destination.name": "mail",
}
PROCESSING = {
    **BASE,
    "messaging.operation.name": "process",
    "messaging.destination.name": "mail",
}


async def test_the_way_of_jobs_in_figures(traced: Traced) -> None:
    traced.broker.max_payload = 200

    @traced.app.task(name="send", queue="mail", retries=1, retry_delay=0)
    async def send(ctx: Ctx, text: str) -> None:
        if ctx.attempt == 1:
            raise ValueError(text)

    await send.enqueue("a")
    await traced.app.enqueue_many([send.job("b"), send.job("c")])
    with pytest.raises(PayloadTooLarge):
        await send.enqueue("x" * 300)
    await traced.work(after=3)
    points = traced.points()

    sent = {point.attributes.get("error.type"): point for point in points[names.SENT]}
    assert {error: point.value for error, point in sent.items()} == {
        None: 3,
        "aioq.errors.PayloadTooLarge": 1,
    }
    assert sent[None].attributes == SENDING
    (enqueued,) = [p for p in points[names.OPERATION_DURATION] if p.attributes == SENDING]
    assert (enqueued.count, enqueued.explicit_bounds) == (2, DURATIONS)

    (consumed,) = points[names.CONSUMED]
    assert (consumed.attributes, consumed.value) == (PROCESSING, 6)
    by_outcome = {
        point.attributes["aioq.job.outcome"]: point
        for point in points["messaging.process.duration"]
    }
    named = {**PROCESSING, "aioq.job.name": "send"}
    assert by_outcome["success"].attributes == {**named, "aioq.job.outcome": "success"}
    assert by_outcome["retry"].attributes == {
        **named,
        "aioq.job.outcome": "retry",
        "error.type": "ValueError",
    }
    assert {outcome: point.count for outcome, point in by_outcome.items()} == {
        "success": 3,
        "retry": 3,
    }
    (wait,) = points[names.JOB_WAIT_TIME]
    del named["messaging.operation.name"]
    assert (wait.attributes, wait.explicit_bounds, wait.max) == (named, WAITS, 3.0)


async def test_of_many_jobs_those_that_were_refused_are_told_apart(traced: Traced) -> None:
    class Refusing(Middleware):
        async def around_enqueue(self, jobs: Sequence[Job[Any]], call_next: Send) -> None:
            await call_next(jobs[:2])
            errors = {jobs[2].id: EnqueueError("no"), jobs[3].id: JobExists("it is there")}
            raise EnqueueManyError([job.id for job in jobs[:2]], errors)

    traced.app.use(Refusing())

    @traced.app.task(name="t", queue="mail")
    async def task(ctx: Ctx) -> None: ...

    with pytest.raises(EnqueueManyError):
        await traced.app.enqueue_many([task.job() for _ in range(4)])
    sent = {
        point.attributes.get("error.type"): point.value
        for point in traced.points()["messaging.client.sent.messages"]
    }
    assert sent == {None: 3, "aioq.errors.EnqueueError": 1}


@pytest.mark.parametrize("exclude", ["", "t"], ids=["with spans", "without"])
async def test_attempts_that_died_with_their_worker_are_counted_once(
    trace_with: Callable[..., Traced], exclude: str
) -> None:
    traced = trace_with(exclude=exclude)

    @traced.app.task(name="t", queue="mail", retries=1, retry_delay=0)
    async def task(ctx: Ctx) -> None:
        if rounds[0] < 3:
            rounds[0] += 1
            raise Snooze(0)

    rounds = [0]
    await task.enqueue()
    await traced.app.open()
    worker = "00000000-0000-4000-8000-000000000001"
    await traced.broker.claim(["mail"], 1, worker=worker, lease_ms=1_000)
    for _ in range(3):  # silence, then the rescue
        traced.clock.advance(2_000)
        await traced.broker.upkeep(["mail"], lease_ms=1_000)
    await traced.work()
    (lost,) = traced.points()[names.LOST]
    assert (lost.value, lost.attributes) == (1, PROCESSING)
    crashes = [(span.attributes or {})["aioq.job.crashes"] for span in traced.named("process t")]
    assert crashes == ([] if exclude else [1] * 4)


async def test_a_worker_tells_how_busy_it_is(traced: Traced) -> None:
    begun, go = anyio.Event(), anyio.Event()

    @traced.app.task(name="t", queue="mail")
    async def task(ctx: Ctx) -> None:
        begun.set()
        await go.wait()

    await task.enqueue()
    worker = Worker(traced.app, WorkerOptions(burst=True, concurrency=7))
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await begun.wait()
        points = traced.points()
        go.set()
    where = {**BASE, "messaging.destination.name": "mail"}
    (active,), (room,) = points[names.ACTIVE_JOBS], points[names.CONCURRENCY]
    assert (active.value, active.attributes) == (1, where)
    assert (room.value, room.attributes) == (7, where)
    ((wait,), process) = points[names.JOB_WAIT_TIME], traced.one("process t")
    assert process.context is not None
    assert [each.span_id for each in wait.exemplars] == [process.context.span_id]
    after = traced.points()
    assert names.ACTIVE_JOBS not in after
    assert names.CONCURRENCY not in after


async def test_queues_are_counted_by_state_and_age(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq_otel._middleware.PERIOD", 0.05)

    @traced.app.task(name="t", queue="mail")
    async def task(ctx: Ctx) -> None: ...

    await traced.app.enqueue_many([task.job(), task.options(delay=3600).job()])
    await traced.broker.pause_queue("mail")
    traced.clock.advance(90_000)
    worker = Worker(traced.app, WorkerOptions())
    points: dict[str, list[Any]] = {}
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        with anyio.fail_after(30):
            while not {names.QUEUE_JOBS, names.OLDEST_AGE} <= points.keys():
                points = traced.points()  # asks for them, and the next time they are there
                await anyio.sleep(0.01)
        worker.stop()
    jobs = {
        (p.attributes["messaging.destination.name"], p.attributes["aioq.job.state"]): p.value
        for p in points[names.QUEUE_JOBS]
    }
    assert jobs == {
        ("mail", "ready"): 1,
        ("mail", "scheduled"): 1,
        ("mail", "running"): 0,
        ("mail", "dead"): 0,
    }
    (age,) = points[names.OLDEST_AGE]
    assert age.value == 90.0, "only what is due counts"
    assert names.QUEUE_JOBS not in traced.points(), "a worker that is gone tells nothing"


class Store:
    """As much of a broker as a reporter asks."""

    def __init__(self, *workers: str) -> None:
        self.ids = workers
        self.asked = 0
        self.breaks = False
        self.looked = anyio.Event()

    async def list_workers(self) -> list[WorkerInfo]:
        self.looked.set()
        if self.breaks:
            raise OSError("gone")
        return [WorkerInfo(each, "host", 1, ("q",), 1, "0") for each in self.ids]

    async def queue_stats(self) -> list[QueueStats]:
        self.asked += 1
        return [QueueStats("q", pending=5)]


async def look(store: Store, mode: Any, me: str, *, wanted: bool = True) -> Snapshot:
    """What a reporter has brought after it has looked, or had the time to."""
    # what was found stays valid until it is read; who looks in vain does so again and again
    snapshot = Snapshot({}, period=60 if wanted else 0.01)
    if wanted:
        snapshot.read()
    async with anyio.create_task_group() as group:
        group.start_soon(Reporter(store, snapshot, mode, me).run)  # type: ignore[arg-type]
        with anyio.move_on_after(30 if wanted and mode == "auto" else 0.05):
            await store.looked.wait()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    return snapshot


@pytest.mark.parametrize(
    ("mode", "me", "asked"),
    [("auto", "a", True), ("auto", "b", False), ("on", "b", True)],
    ids=["the lowest id", "another", "told to"],
)
async def test_one_worker_counts_for_all(mode: str, me: str, asked: bool) -> None:
    store = Store("a", "b")
    snapshot = await look(store, mode, me)
    assert bool(store.asked) is asked
    assert bool(snapshot.read()) is asked


async def test_a_store_that_nobody_reads_about_is_not_asked() -> None:
    store = Store("a")
    await look(store, "on", "a", wanted=False)
    assert not store.asked


async def test_a_store_that_is_gone_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Store("a")
    store.breaks = True
    snapshot = Snapshot({}, period=0.001)
    snapshot.read()
    async with anyio.create_task_group() as group:
        group.start_soon(Reporter(store, snapshot, "auto", "a").run)  # type: ignore[arg-type]
        for _ in range(3):
            with anyio.fail_after(30):
                await store.looked.wait()
            store.looked = anyio.Event()
        group.cancel_scope.cancel()
    assert caplog.text.count("the queues cannot be counted for metrics: gone") == 1


def test_old_counts_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(_queues.time, "monotonic", lambda: now[0])
    snapshot = Snapshot({}, period=10)
    snapshot.put([QueueStats("q")])
    now[0] += 29
    assert snapshot.read()
    now[0] += 2
    assert not snapshot.read()
    assert snapshot.wanted
    now[0] += 200
    assert not snapshot.wanted


async def test_prometheus_scrapes_names_with_their_units() -> None:
    registry = prometheus_client.CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    provider = MeterProvider([reader])
    app = Aarq(MemoryBroker(), plugins=False)
    app.use(TracingMiddleware(meter_provider=provider))
    scraped: list[bytes] = []

    @app.task(name="t", queue="mail")
    async def task(ctx: Ctx, last: bool) -> None:
        if last:
            snapshot = Snapshot({}, period=60)
            snapshot.put([QueueStats("mail", pending=1, oldest_due=9.0)])
            instruments(provider).watch(snapshot)
            scraped.append(prometheus_client.generate_latest(registry))

    await app.enqueue_many([task.job(False), task.job(True)])
    await Worker(app, WorkerOptions(burst=True, concurrency=1)).run()
    provider.shutdown()
    lines = [line for line in scraped[0].decode().splitlines() if not line.startswith("#")]
    found = {line.partition("{")[0] for line in lines} - {"target_info"}
    histograms = ("messaging_client_operation_duration", "messaging_process_duration")
    assert found == {
        *(f"{name}_seconds_{part}" for name in histograms for part in ("bucket", "count", "sum")),
        *(f"aioq_job_wait_time_seconds_{part}" for part in ("bucket", "count", "sum")),
        "messaging_client_sent_messages_total",
        "messaging_client_consumed_messages_total",
        "aioq_worker_active_jobs",
        "aioq_worker_concurrency",
        "aioq_queue_jobs",
        "aioq_queue_oldest_job_age_seconds",
    }
    for name, bounds in (
        ("messaging_process_duration", DURATIONS),
        ("aioq_job_wait_time", WAITS),
    ):
        told = re.findall(rf'{name}_seconds_bucket{{.*?le="(.*?)"', scraped[0].decode())
        assert [float(bound) for bound in told] == [*bounds, math.inf]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://u:secret@host:6380/0", {"server.address": "host", "server.port": 6380}),
        ("redis://a:7000,b:7001/0", {"server.address": "a", "server.port": 7000}),
        ("postgresql://u@[::1]/app", {"server.address": "::1", "server.port": 5432}),
        ("unix:///run/redis.sock", {"server.address": "/run/redis.sock"}),
        ("sqlite:///jobs.db", {}),
        ("memory://", {}),
        ("postgresql://host:port/app", {}),
    ],
)
def test_the_server_is_told_without_credentials(url: str, server: dict[str, Any]) -> None:
    assert server_of(url) == server


async def test_the_list_of_all_that_is_emitted(
    trace_with: Callable[..., Traced], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that comes, goes or changes does so here first."""
    constants = {
        value for name, value in vars(names).items() if name.isupper() and "." in str(value)
    } - {names.SCHEMA_URL}
    assert constants == {
        "aioq.job.attempt",
        "aioq.job.crashes",
        "aioq.job.deduplicated",
        "aioq.job.delay",
        "aioq.job.lost",
        "aioq.job.max_attempts",
        "aioq.job.name",
        "aioq.job.outcome",
        "aioq.job.priority",
        "aioq.job.state",
        "aioq.job.trigger",
        "aioq.job.wait_time",
        "aioq.link.type",
        "aioq.links.dropped",
        "aioq.queue.jobs",
        "aioq.queue.oldest_job.age",
        "aioq.worker.active_jobs",
        "aioq.worker.concurrency",
        "code.function.name",
        "error.type",
        "messaging.batch.message_count",
        "messaging.client.consumed.messages",
        "messaging.client.id",
        "messaging.client.operation.duration",
        "messaging.client.sent.messages",
        "messaging.destination.name",
        "messaging.message.id",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.process.duration",
        "messaging.system",
        "otel.metric.overflow",
        "server.address",
        "server.port",
    }
    traced = trace_with(create_spans=True)

    @traced.app.task(name="t", retries=1, retry_delay=0)
    async def task(ctx: Ctx) -> None:
        raise ValueError

    await traced.app.enqueue_many([task.job(), task.job()])
    await task.options(delay=1, priority=1).enqueue()
    await traced.work(after=1)
    emitted = {name for span in traced.spans for name in span.attributes or {}}
    emitted |= {
        name for span in traced.spans for link in span.links for name in link.attributes or {}
    }
    metrics = traced.points()
    emitted |= {
        name for points in metrics.values() for point in points for name in point.attributes
    }
    assert emitted | metrics.keys() <= constants
