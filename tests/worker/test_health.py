"""The health port tells the truth about each loop, also while the event loop is blocked."""

import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from typing import Any

import anyio
import anyio.to_thread
import pytest
from worker.harness import PATIENCE, FaultyBroker, Log, ended, until, working

from aioq import Aarq, Context, Worker
from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq.worker import WorkerOptions, _health
from aioq.worker._health import HealthReport
from aioq.worker._health_server import HealthServer

Ctx = Context[Any]
LOOPS = {"event_loop", "slots", "fetch", "settle", "upkeep", "beat", "leases"}
IDLE = {"settle", "leases"}
"""What says so while it has nothing to do."""


def ask(port: int | None, path: str) -> tuple[int, dict[str, Any]]:
    assert port is not None
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status != 404 else {}
    finally:
        connection.close()


def failing(worker: Worker) -> list[str]:
    loops = worker.health().details["loops"]
    return [name for name, loop in loops.items() if not loop["ok"]]


async def asked(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    return await anyio.to_thread.run_sync(ask, worker.health_port, path)


async def test_all_is_well(app: Aarq, log: Log) -> None:
    async with working(app, health_port=0) as worker:
        await until(lambda: log.of("worker.started"))
        assert log.of("worker.started")[0]["health_port"] == worker.health_port
        for path in ("/readyz", "/livez", "/", "/readyz?verbose"):
            status, report = await asked(worker, path)
            assert (status, report["status"]) == (200, "ok")
        assert set(report["loops"]) == LOOPS
        assert {name for name, loop in report["loops"].items() if "idle" in loop} <= IDLE
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
        await until(lambda: broker.calls[call] >= 2 and worker.health().ready)
        gate = anyio.Event()
        if how == "refuses":
            broker.faults[call] = BrokerUnavailable("gone")
        else:
            broker.gates[call] = gate
        await until(lambda: failing(worker) == [loop])
        status, report = await asked(worker, "/readyz")
        assert status == 503
        assert not report["loops"][loop]["ok"]
        assert (await asked(worker, "/livez"))[0] == 200
        broker.faults.clear()
        broker.gates.clear()
        gate.set()
        await until(lambda: ask(worker.health_port, "/readyz")[0] == 200)


def test_a_loop_that_fails_is_named_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_health, "monotonic", lambda: now)
    health = _health.Health()
    health.expect("fetch", 10.0)
    health.begin()
    health.failed("fetch", "refused")
    now += 1.0
    assert health.report().ready, "a lost connection is no outage"
    health.failed("fetch", "refused")
    now += 0.1
    assert not health.report().ready
    health.ok("fetch")
    assert health.report().ready


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
        await until(lambda: failing(worker) == ["leases"])
        assert (await asked(worker, "/readyz"))[0] == 503


async def test_an_outcome_the_store_does_not_take_is_named(
    app: Aarq, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq.worker._worker.HEALTHY_SILENCE", 0.6)
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 0.1)

    @app.task
    async def quick(ctx: Ctx) -> None: ...

    async with working(app, lease=0.5) as worker:
        await until(lambda: worker.health().ready)
        broker.faults["settle"] = BrokerUnavailable("gone")
        await quick.enqueue()
        await until(lambda: failing(worker) == ["settle"])
        assert worker.health().details["loops"]["settle"]["reason"] == "gone"
        broker.faults.clear()
        await until(lambda: worker.health().ready)


async def test_the_return_of_the_store_shows_before_the_next_beat(
    app: Aarq, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq.worker._worker.HEALTHY_SILENCE", 0.5)
    monkeypatch.setattr("aioq.worker._worker.BEAT_INTERVAL", 0.1)
    broker.break_all(BrokerUnavailable("gone"))
    async with working(app, lease=0.5) as worker:
        await until(lambda: not worker.health().ready and worker.health().alive)
        broker.faults.clear()
        await until(lambda: worker.health().ready)


async def test_it_is_not_ready_before_it_works_and_when_it_stops(app: Aarq) -> None:
    up, go = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def lifespan(app: Aarq) -> AsyncIterator[None]:
        up.set()
        await go.wait()
        yield

    running = anyio.Event()

    @app.task
    async def patient(ctx: Ctx) -> None:
        running.set()
        await anyio.sleep_forever()

    app.lifespan = lifespan
    async with working(app, health_port=0) as worker:
        await up.wait()
        assert (await asked(worker, "/livez"))[0] == 200
        status, report = await asked(worker, "/readyz")
        assert (status, report["status"]) == (503, "starting")
        go.set()
        await until(lambda: worker.health().ready)
        await patient.enqueue()
        await running.wait()
        worker.stop()
        await until(lambda: worker.health().status == "stopping")
        assert worker.health().alive
    assert worker.health().status == "stopped"


async def test_a_plain_function_that_outlives_its_job_keeps_its_slot(
    app: Aarq, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So there are never more threads than slots."""
    monkeypatch.setattr("aioq.worker._worker.HEALTHY_SILENCE", 0.3)
    monkeypatch.setattr("aioq.worker._fetcher.LONGEST_POLL", 0.1)
    go = threading.Event()

    @app.task(timeout=0.02, name="hangs")
    def hangs(ctx: Ctx) -> None:
        go.wait(60)

    @app.task
    async def quick(ctx: Ctx) -> None: ...

    async def hang(worker: Worker, count: int) -> None:
        while worker.abandoned < count:  # on a busy machine a job times out before it has begun
            await ended(await hangs.enqueue())

    try:
        async with working(app, concurrency=2, lease=1.0) as worker:
            await hang(worker, 1)
            await ended(await quick.enqueue())
            await hang(worker, 2)
            waiting = await quick.enqueue()
            await until(lambda: failing(worker) == ["slots"])
            reason = worker.health().details["loops"]["slots"]["reason"]
            assert reason == (
                "all 2 slots are kept by plain functions that still run although their jobs were "
                "given up: hangs"
            )
            assert [line["reason"] for line in log.of("worker.slots_used_up")] == [reason]
            assert (await waiting.refresh()).status == "pending"
            assert worker.abandoned == 2
            go.set()
            await ended(waiting)
            await until(lambda: worker.health().ready)
    finally:
        go.set()


async def test_the_port_answers_while_the_loop_is_blocked(
    app: Aarq, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, blocked, answered = threading.Event(), threading.Event(), threading.Event()

    def probe(port: int | None) -> None:
        looks.set()
        blocked.wait(PATIENCE)
        until_then = time.monotonic() + PATIENCE
        while time.monotonic() < until_then and not answered.is_set():
            if (ask(port, "/livez")[0], ask(port, "/readyz")[0]) == (503, 503):
                answered.set()
            time.sleep(0.01)

    @app.task
    async def blocker(ctx: Ctx) -> None:
        blocked.set()
        answered.wait(PATIENCE)

    async with working(app, health_port=0, stall_limit=1) as worker:
        await until(lambda: worker.health_port)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, probe, worker.health_port)
            await until(looks.is_set)  # a loop that is blocked starts no thread
            await blocker.enqueue()
        assert answered.is_set()
        await until(lambda: ask(worker.health_port, "/livez")[0] == 200)


async def test_a_port_in_use_is_one_sentence(app: Aarq, broker: FaultyBroker) -> None:
    async with working(app, health_port=0) as worker:
        await until(lambda: worker.health_port)
        second = Worker(app, WorkerOptions(health_port=worker.health_port))
        with pytest.raises(
            ConfigurationError,
            match=rf"^the health port 127.0.0.1:{worker.health_port} cannot be opened: .* in use",
        ):
            await second.run()


def well() -> HealthReport:
    return HealthReport("ok", True)


def test_a_probe_that_hangs_up_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def serving() -> bool:
        return any("process_request" in thread.name for thread in threading.enumerate())

    server = HealthServer(well, "127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.port)) as probe:
        reset_at_once = struct.pack("ii", 1, 0)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once)
    assert ask(server.port, "/livez")[0] == 200, "and so the first one has been taken up"
    deadline = time.monotonic() + PATIENCE
    while serving() and time.monotonic() < deadline:
        time.sleep(0.01)
    server.close()
    assert not serving()
    assert capsys.readouterr() == ("", "")


def test_an_ipv6_address_is_one_to_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("names are looked up"))
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError as exc:  # a system without: then that is what it says
        with pytest.raises(ConfigurationError, match=rf"\[::\]:0 .*: {exc.strerror}$"):
            HealthServer(well, "::", 0)
        return
    server = HealthServer(well, "::", 0)
    assert ask(server.port, "/livez")[0] == 200, "IPv4 finds it as well"
    with pytest.raises(ConfigurationError, match=rf"health port \[::\]:{server.port} cannot be"):
        HealthServer(well, "::", server.port)
    server.close()


def test_limits_are_what_the_design_says() -> None:
    from aioq.worker import _worker

    # a probe each second, and the loop's own pause before the loss, still make it within 10 s
    assert _worker.HEALTHY_SILENCE <= 9.0
    health = _health.Health()
    health.expect("event_loop", 1.0)
    health.ok("nobody asked")
    assert set(health.report().details["loops"]) == {"event_loop"}
