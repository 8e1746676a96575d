"""The health port tells the truth about each loop, also while the event loop is blocked."""

import json
import time
from http.client import HTTPConnection
from typing import Any

import anyio
import anyio.to_thread
import pytest
from worker.harness import FaultyBroker, Log, until, working

from aioq import Aarq, Context, Worker
from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq.worker import WorkerOptions, _health

Ctx = Context[Any]


def ask(port: int | None, path: str) -> tuple[int, dict[str, Any]]:
    assert port is not None
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status != 404 else {}
    finally:
        connection.close()


async def asked(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    return await anyio.to_thread.run_sync(ask, worker.health_port, path)


async def test_all_is_well(app: Aarq) -> None:
    async with working(app, health_port=0) as worker:
        await until(lambda: worker.health_port)
        for path in ("/readyz", "/livez", "/", "/readyz?verbose"):
            status, report = await asked(worker, path)
            assert (status, report["status"]) == (200, "ok")
        assert set(report["loops"]) == {"event_loop", "fetch", "upkeep", "beat", "leases"}
        assert (await asked(worker, "/elsewhere"))[0] == 404
    assert worker.health_port is None


@pytest.mark.parametrize(
    ("loop", "call"), [("fetch", "claim"), ("upkeep", "upkeep"), ("beat", "beat")]
)
@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_loop_that_gets_nowhere_is_named(
    app: Aarq,
    broker: FaultyBroker,
    monkeypatch: pytest.MonkeyPatch,
    loop: str,
    call: str,
    how: str,
) -> None:
    monkeypatch.setattr("aioq.worker._worker.HEALTHY_SILENCE", 0.4)
    monkeypatch.setattr("aioq.worker._worker.BEAT_INTERVAL", 0.1)
    monkeypatch.setattr("aioq.worker._upkeep.BEAT_INTERVAL", 0.1)
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 0.1)
    async with working(app, health_port=0, lease=0.5) as worker:
        await until(lambda: broker.calls[call] >= 2)
        assert (await asked(worker, "/readyz"))[0] == 200
        gate = anyio.Event()
        if how == "refuses":
            broker.faults[call] = BrokerUnavailable("gone")
        else:
            broker.gates[call] = gate
        await anyio.sleep(0.8)
        status, report = await asked(worker, "/readyz")
        assert status == 503
        assert [name for name, state in report["loops"].items() if not state["ok"]] == [loop]
        assert (await asked(worker, "/livez"))[0] == 200
        broker.faults.clear()
        broker.gates.clear()
        gate.set()
        await anyio.sleep(0.1)
        await until(lambda: ask(worker.health_port, "/readyz")[0] == 200, within=4)


def test_a_loop_that_fails_is_named_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_health, "monotonic", lambda: now)
    health = _health.Health()
    health.expect("fetch", 10.0)
    health.failed("fetch")
    now += 1.0
    assert health.report()[0], "a lost connection is no outage"
    health.failed("fetch")
    now += 0.1
    assert not health.report()[0]
    health.ok("fetch")
    assert health.report()[0]


async def test_leases_that_are_not_renewed_are_named(
    app: Aarq, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq.worker._worker.HEALTHY_SILENCE", 1.5)
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 0.1)
    monkeypatch.setattr("aioq.worker._worker.BEAT_INTERVAL", 600)
    running = anyio.Event()

    @app.task
    async def long(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    await long.enqueue()
    async with working(app, health_port=0, lease=0.3, concurrency=2) as worker:
        await running.wait()
        broker.faults["renew"] = BrokerUnavailable("gone")
        await anyio.sleep(1.9)
        status, report = await asked(worker, "/readyz")
        assert status == 503
        assert [name for name, state in report["loops"].items() if not state["ok"]] == ["leases"]


async def test_the_port_answers_while_the_loop_is_blocked(
    app: Aarq, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[int, int]] = []

    def probe(port: int | None) -> None:
        time.sleep(1.3)
        answers.append((ask(port, "/livez")[0], ask(port, "/readyz")[0]))

    @app.task
    async def blocker(ctx: Ctx) -> None:
        time.sleep(1.7)  # noqa: ASYNC251

    async with working(app, health_port=0, stall_limit=1) as worker:
        await until(lambda: worker.health_port)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, probe, worker.health_port)
            await blocker.enqueue()
        assert answers == [(503, 503)]
        await until(lambda: ask(worker.health_port, "/livez")[0] == 200)


async def test_a_port_in_use_is_one_sentence(app: Aarq, broker: FaultyBroker) -> None:
    async with working(app, health_port=0) as worker:
        await until(lambda: worker.health_port)
        second = Worker(app, WorkerOptions(health_port=worker.health_port))
        with pytest.raises(
            ConfigurationError,
            match=rf"^the health port 127.0.0.1:{worker.health_port} cannot be opened: .* in use$",
        ):
            await second.run()


def test_limits_are_what_the_design_says() -> None:
    from aioq.worker import _worker

    assert _worker.HEALTHY_SILENCE == 10.0
    health = _health.Health()
    health.expect("event_loop", 1.0)
    health.ok("nobody asked")
    assert set(health.report()[1]["loops"]) == {"event_loop"}


def test_queues_are_names_not_letters(log: Log) -> None:
    from aioq.errors import InvalidOption

    with pytest.raises(InvalidOption, match="tuple"):
        WorkerOptions(queues="default")  # type: ignore[arg-type]
