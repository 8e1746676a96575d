"""``aioq worker`` under systemd, with ``--reload``, and with ``--processes`` that cannot start."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from aioq.cli import _systemd
from aioq.cli._supervisor import Supervisor
from aioq.cli._systemd import Notifier
from aioq.worker import WorkerOptions
from aioq.worker._health import HealthReport

APP = """
from aioq import Aarq
app = Aarq("sqlite:///jobs.db")


@app.task
async def one(ctx) -> None: ...
"""

# Its worker has left when the file ``go`` is there, and not before.
PATIENT = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from aioq import Aarq


@asynccontextmanager
async def lifespan(app):
    yield
    while not Path("go").exists():
        await asyncio.sleep(0.02)


app = Aarq("sqlite:///jobs.db", lifespan=lifespan)


@app.task
async def one(ctx) -> None: ...
"""


@pytest.fixture(autouse=True)
def served(project):
    (project / "served.py").write_text(APP)


@pytest.fixture
def start(project, environment):
    """Start a worker for ``served``; its log goes to the file ``log``."""
    started = []

    def start(*words, **more):
        with (project / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "aioq", "worker", "served:app", *words],
                cwd=project,
                env=environment | more,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def wait_for(project):
    """Wait until the log holds so many lines of this event; the last of them."""

    def wait_for(event, count=1):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text = (project / "log").read_text()
            found = [line for line in text.splitlines() if f'"event": "{event}"' in line]
            if len(found) >= count:
                return json.loads(found[-1])
            time.sleep(0.02)
        raise AssertionError(f"no {event}: {text}")

    return wait_for


# -- several processes ----------------------------------------------------------------------------


def test_processes_that_cannot_start_end_the_parent_with_one_sentence(shell, project):
    (project / "served.py").write_text(APP.replace("app = ", "app = broken + "))
    done = shell("worker", "served:app", "--processes", "2", "--log-level", "error")
    assert done.code == 1
    assert done.err == (
        "error: importing 'served' raised NameError: name 'broken' is not defined (served.py:3)\n"
    )


def test_a_burst_of_several_processes_ends_when_all_are_done(shell):
    shell("enqueue", "served:app", "one")
    done = shell("worker", "served:app", "--processes", "2", "--burst", "--log-format", "json")
    assert done.code == 0
    assert "worker.process_ended" not in done.err
    assert "completed" in shell("jobs", "list", "served:app").out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--processes", "0"], 2, "invalid value for '--processes': 0 is not in the range x>=1"),
        (["--processes", "2", "-c", "0"], 2, "concurrency must be a whole number"),
        (["--reload", "--burst"], 2, "--burst and --reload exclude each other"),
        (["--stall-limit", "0"], 2, "stall_limit must be a number, at least 1, got 0.0"),
    ],
)
def test_mistakes(run, words, code, sentence):
    done = run("worker", "served:app", *words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(f"error: {sentence}")
    assert done.err.count("\n") == 1


# -- reload ---------------------------------------------------------------------------------------


def test_reload_without_watchfiles_is_one_sentence(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = run("worker", "served:app", "--reload")
    assert (done.code, done.err) == (
        1,
        "error: --reload needs watchfiles: pip install watchfiles\n",
    )


async def test_files_are_watched_before_the_first_process_reads_them(monkeypatch, project):
    happened = []

    async def changes(folder, stopping):
        happened.append(f"watching {folder.name}")
        await stopping.wait()
        return
        yield

    async def start(command):
        happened.append(command)
        supervisor._stop("seen")
        raise OSError("enough")

    monkeypatch.setattr("aioq.cli._supervisor.changes", changes)
    monkeypatch.setattr("aioq.cli._supervisor.Process.start", start)
    supervisor = Supervisor("start", WorkerOptions(), reload=project)
    assert await supervisor.run() == 0
    assert happened == [f"watching {project.name}", "start"]


def test_a_change_starts_the_worker_anew_and_a_syntax_error_waits_for_the_next(
    project, start, wait_for
):
    process = start("--reload", "--shutdown-timeout", "1")
    assert wait_for("worker.starting")["tasks"] == ["served.one"]
    wait_for("worker.started")
    (project / "served.py").write_text(APP + "\n\n@app.task\nasync def two(ctx -> None: ...\n")
    assert wait_for("worker.reloading")["files"] == ["served.py"]
    failed = wait_for("worker.process_failed")
    assert failed["reason"].startswith("importing 'served' raised SyntaxError:")
    (project / "served.py").write_text(APP + "\n\n@app.task\nasync def two(ctx) -> None: ...\n")
    assert wait_for("worker.starting", 2)["tasks"] == ["served.one", "served.two"]
    wait_for("worker.started", 2)
    process.terminate()
    assert process.wait(60) == 0


# -- systemd --------------------------------------------------------------------------------------


@pytest.fixture
def systemd(tmp_path):
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(60)
        listening.bind(str(tmp_path / "notify"))
        yield listening


def told(systemd, line):
    """All lines up to this one."""
    lines = []
    deadline = time.monotonic() + 60
    while line not in lines:
        assert time.monotonic() < deadline, f"no {line} in {lines}"
        lines += systemd.recv(4096).decode().split("\n")
    return lines


@pytest.mark.parametrize("processes", ["1", "2"])
def test_systemd_hears_of_start_life_and_stop(project, start, systemd, processes):
    (project / "served.py").write_text(PATIENT)
    process = start(
        *("--processes", processes, "--shutdown-timeout", "3600"),
        NOTIFY_SOCKET=systemd.getsockname(),
        WATCHDOG_USEC="200000",
    )
    starting = told(systemd, "READY=1")
    assert [line for line in starting if line.startswith("STATUS=starting: ")]
    working = told(systemd, "WATCHDOG=1")
    assert [line for line in [*starting, *working] if line.startswith("STATUS=ok: ")]
    process.send_signal(signal.SIGTERM)
    try:
        told(systemd, "STOPPING=1")
    finally:
        (project / "go").touch()
    assert process.wait(60) == 0


def test_an_abstract_socket_and_a_watchdog_that_is_not_ours(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the system chooses an abstract name
        name = listening.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:].decode())
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        monkeypatch.setenv("WATCHDOG_PID", "1")
        notifier = Notifier.from_environment()
        assert Notifier.from_environment() is None, "what tasks start is not told of it"
        notifier.update(HealthReport("ok", True), "all is well")
        assert listening.recv(4096) == b"READY=1\nSTATUS=all is well"
        notifier.update(HealthReport("failing", True), "the store is gone")
        assert listening.recv(4096) == b"STATUS=the store is gone"


def test_a_watchdog_is_told_only_while_there_is_life(systemd):
    notifier = Notifier(systemd.getsockname(), 1.0)
    notifier.update(HealthReport("ok", True), "s")
    assert systemd.recv(4096) == b"READY=1\nSTATUS=s\nWATCHDOG=1"
    notifier.update(HealthReport("failing", False), "stuck")
    assert systemd.recv(4096) == b"STATUS=stuck"


def test_what_systemd_does_not_take_is_told_again(systemd, monkeypatch):
    def fill():
        """A message each of many, until no more fit."""
        with contextlib.suppress(OSError):
            while True:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                    other.setblocking(False)
                    other.sendto(b"of others", systemd.getsockname())

    def take_all():
        systemd.setblocking(False)
        taken = []
        with contextlib.suppress(BlockingIOError):
            while True:
                taken.append(systemd.recv(4096))
        return taken

    monkeypatch.setattr(_systemd, "SEND_TIMEOUT", 0.01)
    notifier = Notifier(systemd.getsockname(), 1.0)
    for status, word in [("ok", "READY=1"), ("stopping", "STOPPING=1")]:
        fill()
        for _ in range(2):
            notifier.update(HealthReport(status, True), status)
        assert set(take_all()) == {b"of others"}
        notifier.update(HealthReport(status, True), status)
        (message,) = take_all()
        assert message.decode().split("\n")[:2] == [word, f"STATUS={status}"]


def test_a_systemd_that_does_not_listen_ends_nothing(tmp_path, capsys):
    notifier = Notifier(str(tmp_path / "nobody"))
    for _ in range(2):
        notifier.update(HealthReport("ok", True), "s")
        notifier.update(HealthReport("ok", True), "t")
    assert len(re.findall("worker.not_notified", capsys.readouterr().err)) == 1
