"""Options in code and in the environment; the plugin, the instrumentor and their one switch."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from otel.conftest import Traced

from aioq import Aarq, Context
from aioq.errors import InvalidOption
from aioq.plugins._registry import Registry
from aioq_otel import AioqInstrumentor, TracingMiddleware
from aioq_otel._instrumentor import switch
from aioq_otel._options import Options


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("relationship", "link", "link"),
        ("link_after", "2.5", 2.5),
        ("span_name", "queue", "queue"),
        ("queue_metrics", "true", "on"),
        ("queue_metrics", "auto", "auto"),
        ("create_spans", "1", True),
        ("retry_status", "unset", "unset"),
        ("baggage", "False", False),
        ("error_messages", "off", False),
        ("exclude", "a, b.*", ("a", "b.*")),
        ("trace_internal", "true", True),
    ],
)
def test_each_option_has_a_variable(name: str, text: str, value: Any) -> None:
    variable = f"AIOQ_OTEL_{name.upper()}"
    assert getattr(Options.read({}, {variable: text}), name) == value
    given = getattr(Options(), name) if name != "queue_metrics" else False
    chosen = Options.read({name: given}, {variable: text})
    assert getattr(chosen, name) == ("off" if name == "queue_metrics" else given), "code wins"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("relationship", "parent", "must be one of auto, child, link, none, got 'parent'"),
        ("link_after", "soon", "must be a number, not negative, of seconds, got 'soon'"),
        ("baggage", "maybe", "must be true or false, got 'maybe'"),
        ("queue_metrics", "maybe", "must be auto, true or false, got 'maybe'"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^AIOQ_OTEL_{name.upper()} {message}"):
        Options.read({}, {f"AIOQ_OTEL_{name.upper()}": text})
    with pytest.raises(InvalidOption, match=f"^{name} {message}"):
        Options.read({name: text}, {})


@pytest.fixture(autouse=True)
def switched_on() -> Iterator[None]:
    yield
    switch.set(on=True)


def layers(**options: Any) -> list[TracingMiddleware]:
    app = Aarq("memory://", **options)
    return [layer for layer in app.freeze().layers if isinstance(layer, TracingMiddleware)]


def test_the_plugin_traces_every_app() -> None:
    assert len(layers()) == 1
    assert not layers(plugins=False)


def test_it_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOQ_DISABLE_PLUGINS", "otel")
    found = Registry()
    states = {plugin.name: plugin.state for plugin in found.plugins}
    assert states["otel"] == "disabled"
    brought = [*found.middlewares(Aarq("memory://")), *found.log_processors()]
    assert not [each for each in brought if type(each).__module__.startswith("aioq_otel")]


def test_a_layer_of_the_users_own_takes_its_place() -> None:
    app = Aarq("memory://")
    own = app.use(TracingMiddleware())
    assert [each for each in app.freeze().layers if isinstance(each, TracingMiddleware)] == [own]


def test_the_instrumentor_gives_options_and_never_doubles() -> None:
    instrumentor = AioqInstrumentor()
    for _ in range(2):
        instrumentor.instrument(relationship="link", skip_dep_check=True)
    (layer,) = layers()
    assert layer._options.relationship == "link"
    instrumentor.uninstrument()
    assert not layers()
    instrumentor.instrument()
    (layer,) = layers()
    assert layer._options.relationship == "auto"


@pytest.mark.parametrize("names", ["aioq", "redis, aioq", "*"])
def test_the_variable_of_opentelemetry_switches_the_plugin_off_too(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", names)
    assert not layers()


async def test_apps_in_use_fall_silent_when_uninstrumented(traced: Traced) -> None:
    @traced.app.task(name="t")
    async def task(ctx: Context[Any]) -> None: ...

    await task.enqueue()
    AioqInstrumentor().uninstrument()
    await task.enqueue()
    await traced.work()
    assert [span.name for span in traced.spans] == ["enqueue t"]


def test_a_wrong_variable_is_told_and_costs_only_the_tracing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIOQ_OTEL_LINK_AFTER", "soon")
    with pytest.warns(RuntimeWarning, match=r"'otel' broke .*AIOQ_OTEL_LINK_AFTER must be"):
        assert not layers()


NO_SDK = """
import sys
sys.modules["opentelemetry.sdk"] = None
import anyio
from opentelemetry import baggage, context, trace
from aioq import Aarq, Worker, WorkerOptions

app = Aarq("memory://")
ran = []

@app.task(name="t", retries=1, retry_delay=0)
async def task(ctx):
    ran.append((dict(ctx.headers), baggage.get_baggage("tenant")))
    if ctx.attempt == 1:
        raise ValueError

async def main():
    await task.enqueue()
    context.attach(baggage.set_baggage("tenant", "acme"))
    await task.enqueue()
    await Worker(app, WorkerOptions(burst=True)).run()

anyio.run(main)
assert sorted(map(str, ran)) == sorted(
    map(str, [({}, None)] * 2 + [({"baggage": "tenant=acme"}, "acme")] * 2)
), ran
assert any(type(layer).__name__ == "TracingMiddleware" for layer in app.freeze().layers)
print("fine")
"""


def test_without_an_sdk_nothing_is_written_and_all_works() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_SDK], capture_output=True, text=True, timeout=180
    )
    assert done.stdout == "fine\n", done.stderr


LATE_SDK = """
import anyio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from aioq import Aarq, Worker, WorkerOptions
from aioq_otel._telemetry import LOOK_EVERY

app = Aarq("memory://")

@app.task(name="t")
async def task(ctx): ...

async def run():
    await task.enqueue()
    await Worker(app, WorkerOptions(burst=True)).run()

async def main():
    await run()
    spans, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    await anyio.sleep(LOOK_EVERY)
    await run()
    metrics.set_meter_provider(MeterProvider([reader]))
    await anyio.sleep(LOOK_EVERY)
    await run()
    print([span.name for span in spans.get_finished_spans()])
    told = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    found = {metric.name: metric.data.data_points[0] for metric in told}
    print(found["messaging.client.sent.messages"].value, found["aioq.job.wait_time"].count)

anyio.run(main)
"""


def test_an_sdk_that_is_set_up_late_is_noticed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE_SDK], capture_output=True, text=True, timeout=180
    )
    assert done.stdout.splitlines()[-2:] == [
        str(["enqueue t", "process t"] * 2),
        "1 1",
    ], done.stdout + done.stderr
