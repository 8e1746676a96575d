"""``--processes``: a parent that keeps its workers running, and workers that outlive no parent."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import pytest
from acceptance.harness import (
    RESCUE,
    Fleet,
    Journal,
    WorkerProcess,
    eventually,
    promised,
    runs,
)
from acceptance.stores import STORES

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
on_one_store = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


def gone(pids: list[int]) -> bool:
    return not any(runs(pid) for pid in pids)


async def two_running(jobs: ModuleType, journal: Journal, gate: Path) -> Any:
    """Two jobs, each running until the gate opens."""
    sent = [await jobs.work_until.enqueue(str(gate)) for _ in range(2)]
    await eventually(lambda: len(journal.count("start")) == 2, 10)
    return sent


async def test_killed_processes_are_replaced_and_their_jobs_run_again(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    """Two workers of two processes each; one process of each is killed in the midst of its jobs."""
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: fleet.start("--processes", "2", "-c", "5", up=2))
    gate = tmp_path / "gate"
    sent = [jobs.work.job(0.1) for _ in range(40)]
    sent += [jobs.work_until.job(str(gate)) for _ in range(120)]
    await jobs.app.enqueue_many(sent)
    killed = [worker.children()[0] for worker in fleet.workers]
    await eventually(lambda: len(journal.count("end")) == 40, 20)
    await eventually(lambda: all(len(journal.running_in(pid)) == 5 for pid in killed), 10)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    at = time.monotonic()
    interrupted = set[str]().union(*map(journal.running_in, killed))
    gate.touch()
    for worker in fleet.workers:
        await eventually(lambda worker=worker: len(worker.children()) == 2, 2, worker.text)

    async def all_done() -> bool:
        return sum(s.completed for s in await jobs.app.broker.queue_stats()) == len(sent)

    await eventually(all_done, 30)
    excused = {*killed, *journal.stood_still()}
    for job_id in journal.count("start"):
        *before, last = journal.of(job_id)
        assert {entry.pid for entry in before} <= excused, "run twice without a crash"
        assert last.pid not in killed or not before
    for job_id in interrupted:
        again = min(entry.at for entry in journal.of(job_id) if entry.pid not in killed)
        assert again - at <= promised(RESCUE)
    for worker in fleet.workers:
        await eventually(lambda w=worker: len(w.logged("worker.started")) == 3, 15, worker.text)
    gate = tmp_path / "second gate"
    slots = [jobs.work_until.job(str(gate)) for _ in range(20)]
    await jobs.app.enqueue_many(slots)
    fresh = {worker.children()[1] for worker in fleet.workers}
    await eventually(lambda: all(map(journal.running_in, fresh)), 10)
    gate.touch()
    for job in slots:
        await job.finished(timeout=promised(10))


@on_one_store
async def test_sigterm_of_the_parent_is_a_graceful_stop_of_all(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    """Also where the whole group hears it, as systemd and a terminal do it."""
    worker = await fleet.start("--processes", "2", "-c", "1", lease=30.0, up=2)
    children, gate = worker.children(), tmp_path / "gate"
    running = await two_running(jobs, journal, gate)
    waiting = await jobs.work.enqueue()
    for pid in (*children, worker.pid):
        os.kill(pid, signal.SIGTERM)
    await eventually(lambda: len(worker.logged("worker.stopping")) == 3, 5, worker.text)
    gate.touch()
    assert worker.wait(timeout=10) == 0
    assert gone(children)
    assert [(await job.refresh()).status for job in running] == ["completed"] * 2
    assert (await waiting.refresh()).status == "pending"


@on_one_store
async def test_processes_whose_parent_was_killed_stop_gracefully(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    worker = await fleet.start("--processes", "2", "-c", "1", lease=30.0, up=2)
    children, gate = worker.children(), tmp_path / "gate"
    running = await two_running(jobs, journal, gate)
    waiting = await jobs.work.enqueue()
    worker.kill()
    await eventually(lambda: len(worker.logged("worker.stopping")) == 2, 5, worker.text)
    gate.touch()
    await eventually(lambda: gone(children), 10, worker.text)
    assert [(await job.refresh()).status for job in running] == ["completed"] * 2
    assert (await waiting.refresh()).status == "pending"
    reasons = [line["reason"] for line in worker.logged("worker.stopping")]
    assert reasons == ["its parent process is gone"] * 2


@on_one_store
async def test_a_second_signal_takes_all_down_at_once(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    worker = await fleet.start("--processes", "2", up=2)
    children = worker.children()
    await two_running(jobs, journal, tmp_path / "never")
    worker.signal(signal.SIGINT)
    await eventually(lambda: len(worker.logged("worker.stopping")) == 3, 5)
    await eventually(lambda: worker.gone_by(signal.SIGINT), 5)
    assert worker.wait(timeout=2) == 128 + signal.SIGINT
    await eventually(lambda: gone(children), 2)


@on_one_store
async def test_a_process_that_stands_still_is_replaced(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    worker = await fleet.start("--processes", "1")
    assert worker.children() == [], "one process needs no parent"
    worker = await fleet.start("--processes", "2", "--stall-limit", "5", up=2)
    frozen, other = worker.children()
    os.kill(frozen, signal.SIGSTOP)

    def killed() -> set[int]:
        return {line["pid"] for line in worker.logged("worker.process_killed")}

    await eventually(lambda: frozen in killed(), 10, worker.text)
    await eventually(lambda: len(worker.logged("worker.started")) >= 3, 10, worker.text)
    assert other in worker.children() or (other in killed() and journal.stood_still())


def readiness(port: int) -> tuple[int, dict[str, Any]]:
    """Status and report; 0 where nobody answers yet."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, HTTPException):
        return 0, {}
    finally:
        connection.close()


async def becomes(worker: WorkerProcess, port: int, status: int) -> float:
    return await eventually(lambda: readiness(port)[0] == status, 12, worker.text)


class LockedFile:
    """What can happen to SQLite: another process holds the lock and stands still."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = f"{url.removeprefix('sqlite:///')}.lock"
        self._fd = -1

    def start(self) -> None:
        """Or start again: let go of the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def kill(self) -> None:
        self._fd = os.open(self._lock, os.O_RDWR)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    close = start


@pytest.mark.parametrize("kind", STORES)
@on_one_store
async def test_the_health_port_tells_of_the_stores_loss_and_return_within_ten_seconds(
    kind: str,
    broker_url: str,
    fleet: Fleet,
    tmp_path: Path,
    unavailable: Callable[[str], NoReturn],
) -> None:
    store = STORES[kind]
    if (missing := store.missing()) is not None:
        unavailable(missing)
    server = store.server(tmp_path / "own") if store.server else LockedFile(broker_url)
    with closing(server):
        await anyio.to_thread.run_sync(server.start)
        fleet.env["AIOQ_BROKER_URL"] = server.url
        worker = await fleet.start("--processes", "2", "--health-port", "0", up=2)
        port = worker.logged("worker.supervising")[0]["health_port"]
        children = worker.children()
        await becomes(worker, port, 200)
        await anyio.to_thread.run_sync(server.kill)
        assert await becomes(worker, port, 503) <= promised(10)
        red: dict[str, Any] = {}

        def failing() -> bool:
            """Red for the store's sake; a process that stands still is called silent."""
            status, report = readiness(port)
            for each in report.get("processes", []):
                if each["status"] == "failing":
                    red.update(report, of=each["loops"])
            return status == 503 and bool(red)

        await eventually(failing, 10, worker.text)
        assert red["status"] == "failing"
        assert [process["pid"] for process in red["processes"]] == children
        reasons = [loop.get("reason") for loop in red["of"].values() if not loop["ok"]]
        blamed = f"127.0.0.1:{urlsplit(server.url).port}" if store.server else "holds the lock"
        for reason in filter(None, reasons):
            assert blamed in reason
        assert reasons
        await anyio.to_thread.run_sync(server.start)
        assert await becomes(worker, port, 200) <= promised(10)
        assert worker.children() == children, "none had to be restarted"
