"""A real backend, read back by its queries: the example's trace on every store."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from types import ModuleType
from typing import Any, NoReturn

import pytest
from acceptance.stores import STORES
from servers.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "tracing"
ONE_PROCESS = Path(__file__).parent / "apps" / "one_process.py"
PATIENCE = 600.0
"""Seconds for the whole example, which is patient in several places."""


def load(name: str) -> ModuleType:
    """A module of the example."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def command(unavailable: Callable[[str], NoReturn]) -> list[str]:
    """What starts the backend."""
    try:
        return load("backend").install()
    except load("backend").NoNode as exc:
        unavailable(str(exc))


@pytest.fixture
def backend(command: list[str]) -> Iterator[Any]:
    with load("backend").Backend(command, port=free_port(), grpc=free_port()) as backend:
        yield backend


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts a process in the example's folder, ended with the test."""
    running: list[Popen[bytes]] = []

    def run(environment: dict[str, str], *words: str) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIOQ_", "OTEL_"))}
        clean["PYTHONPATH"] = str(EXAMPLE)
        clean["PYTHONDONTWRITEBYTECODE"] = "1"
        with (tmp_path / "log").open("ab") as log:
            running.append(
                Popen(
                    [sys.executable, *words],
                    cwd=EXAMPLE,
                    env=clean | environment,
                    stdout=log,
                    stderr=log,
                )
            )

    yield run
    for process in running:
        process.kill()
        process.wait()


def check(spans: list[dict[str, Any]]) -> None:
    """One request, a job that fails once and then enqueues another: one trace, as promised."""
    request, enqueue, first, smtp, second, _, inner, nested, _own = spans
    assert [span["name"] for span in spans] == [
        "POST /signup/{name}",
        "enqueue welcome",
        "process welcome",
        "smtp",
        "process welcome",
        "smtp",
        "enqueue count",
        "process count",
        "update statistics",
    ]
    assert len({span["traceId"] for span in spans}) == 1
    parents = [span.get("parentSpanId") for span in spans]
    above = [None, request, enqueue, first, enqueue, second, second, inner, nested]
    assert parents[1:] == [span["spanId"] for span in above if span is not None]
    kinds = [request["kind"], enqueue["kind"], first["kind"], inner["kind"], nested["kind"]]
    assert kinds == ["SERVER", "PRODUCER", "CONSUMER", "PRODUCER", "CONSUMER"]

    def links(span: dict[str, Any]) -> list[tuple[str, str]]:
        return [(each["attributes"]["aioq.link.type"], each["spanId"]) for each in span["links"]]

    assert links(first) == [("creation", enqueue["spanId"])]
    assert links(second) == [
        ("creation", enqueue["spanId"]),
        ("previous_attempt", first["spanId"]),
    ]
    assert links(nested) == [("creation", inner["spanId"])]
    assert (first["status"]["code"], first["status"]["message"]) == (
        "ERROR",
        "the mail server is away",
    )
    assert second["status"]["code"] == "UNSET"
    assert first["attributes"]["error.type"] == "ConnectionError"
    assert [span["attributes"]["aioq.job.outcome"] for span in (first, second, nested)] == [
        "retry",
        "success",
        "success",
    ]
    assert second["attributes"]["aioq.job.attempt"] == 2
    assert second["scope"]["name"] == "aioq_otel"
    assert smtp["parentSpanId"] == first["spanId"]


@pytest.mark.parametrize("store", STORES)
def test_web_by_http_and_worker_by_grpc_make_one_trace(
    store: str, backend: Any, run: Callable[..., None], tmp_path: Path
) -> None:
    place = STORES[store].open(tmp_path)
    try:
        broker = {"AIOQ_BROKER_URL": place.fresh(tmp_path)}
        port = free_port()
        run(
            {**broker, **backend.environment("web")},
            *("-m", "uvicorn", "web:web", "--port", str(port), "--log-level", "warning"),
        )
        run(
            {**broker, **backend.environment("worker", "grpc")},
            *("-m", "aioq", "worker", "tasks:app"),
        )
        load("run").sign_up(port, "Ada")
        spans = backend.wait_for(*load("run").EXPECTED)
        check(spans)
        services = [span["attributes"]["service.name"] for span in spans]
        assert services == ["web"] * 2 + ["worker"] * 7
        server = {"server.address": "127.0.0.1"} if store != "sqlite" else {}
        assert server.items() <= spans[1]["attributes"].items()
    finally:
        place.close()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_memory_in_one_process_with_metrics(
    protocol: str, backend: Any, run: Callable[..., None]
) -> None:
    port = free_port()
    run(
        {"AIOQ_BROKER_URL": "memory://", **backend.environment("all", protocol)},
        *(str(ONE_PROCESS), str(port)),
    )
    load("run").sign_up(port, "Ada")
    check(backend.wait_for(*load("run").EXPECTED))
    for name in (
        "messaging.client.sent.messages",
        "messaging.process.duration",
        "aioq.job.wait_time",
        "aioq.worker.concurrency",
        "aioq.queue.oldest_job.age",
    ):
        backend.wait_for_metric(name)


def test_the_example_says_what_has_ended(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('there is no uvicorn')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ports = [str(free_port()) for _ in range(3)]
    ended = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), "--ports", *ports],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 1
    assert "has ended. What the example needs is listed in docs/otel.md." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_example_starts_by_one_command(command: list[str], tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as out:
        ports = [str(free_port()) for _ in range(3)]
        example = Popen(
            [sys.executable, str(EXAMPLE / "run.py"), "--ports", *ports],
            cwd=tmp_path,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            code = example.wait(PATIENCE)
        except BaseException:
            os.killpg(example.pid, signal.SIGKILL)  # and what it has started
            example.wait()
            raise
        out.seek(0)
        text = out.read()
    assert code == 0, text
    assert "worker      process welcome retry\n" in text
    assert "worker          process count success\n" in text
