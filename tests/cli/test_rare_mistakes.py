"""Sentences that few will ever read, and that have to help those all the more."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from aioq.cli import _supervisor, worker
from aioq.cli._process import Process
from aioq.cli._reload import changes
from aioq.errors import ConfigurationError
from aioq.worker import WorkerOptions

DEAF = """
import pathlib, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("deaf").touch()
signal.pause()
"""


def test_a_running_job_cannot_be_deleted(run):
    async def one_running() -> str:
        tasks = sys.modules["tasks"]
        job = await tasks.compute.enqueue(1)
        await tasks.broker.claim(["default"], 1, worker=str(uuid4()), lease_ms=60_000)
        return job.id

    assert run("jobs", "list", "tasks:app").code == 0  # imports tasks
    job_id = asyncio.run(one_running())
    done = run("jobs", "delete", "tasks:app", job_id, "--yes")
    assert (done.code, done.err) == (1, f"error: job {job_id} is running: cancel it first\n")


@pytest.mark.parametrize("words", [("--processes", "2"), ("--reload",)])
def test_several_processes_need_posix(run, monkeypatch, words: tuple[str, ...]):
    monkeypatch.setattr(worker, "os", SimpleNamespace(name="nt"))
    done = run("worker", "tasks:app", *words)
    assert done.code == 1
    assert done.err == (
        "error: --processes and --reload need a POSIX system; start workers singly\n"
    )


async def test_a_process_that_was_being_started_at_the_stop_is_killed_like_the_others(
    project: Path, monkeypatch
):
    monkeypatch.setattr(_supervisor, "KILL_AFTER", 0.1)
    supervisor = _supervisor.Supervisor(
        [sys.executable, "-c", DEAF], WorkerOptions(shutdown_timeout=0.1)
    )
    started: list[Process] = []
    real = Process.start

    async def start(command: list[str]) -> Process:
        started.append(await real(command))
        while not (project / "deaf").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        supervisor._stop("asked meanwhile")
        return started[0]

    monkeypatch.setattr(Process, "start", start)
    try:
        assert await asyncio.wait_for(supervisor.run(), 60) == 1
    finally:
        for process in started:
            process.kill()
    assert process.killed


async def test_files_that_cannot_be_watched(tmp_path: Path, monkeypatch):
    async def awatch(*_: object, **__: object):
        raise OSError("no inotify watches are left")
        yield

    monkeypatch.setitem(sys.modules, "watchfiles", SimpleNamespace(awatch=awatch, PythonFilter=int))
    with pytest.raises(ConfigurationError) as told:
        await anext(changes(tmp_path, asyncio.Event()))
    assert str(told.value) == (
        f"the files in {tmp_path} cannot be watched: no inotify watches are left; "
        f"WATCHFILES_FORCE_POLLING=true in the environment looks at each of them instead"
    )
