"""``aioq worker``."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import structlog

from aioq.cli._logging import configure_logging

# An app whose worker enqueues one job for itself, once signals are handled.
BUSY = """
import logging
import os
import sys
import threading
import warnings
from contextlib import asynccontextmanager

from aioq import Aarq


@asynccontextmanager
async def lifespan(app):
    await app.tasks["busy.{task}"].enqueue({arguments})
    yield


app = Aarq("memory://", lifespan=lifespan)


@app.task
async def good(ctx) -> None: ...


@app.task
async def bad(ctx, card: str) -> None:
    raise ValueError("no")


@app.task
def stuck(ctx) -> None:
    print("stuck now", file=sys.stderr, flush=True)
    threading.Event().wait()


@app.task
async def chatty(ctx) -> None:
    log = logging.getLogger("lib")
    log.debug("chatter")
    log.info("progress")
    log.warning("watch %s", "out")


@app.task
async def forgetful(ctx) -> None:
    good.enqueue()


@app.task
def old(ctx) -> None:
    warnings.warn("use the new one")


@app.task
async def patient(ctx) -> None:
    import anyio

    print("running now", file=sys.stderr, flush=True)
    while not os.path.exists("go"):
        await anyio.sleep(0.02)
"""


CULPRITS = {"forgetful": "good.enqueue()", "old": 'warnings.warn("use the new one")'}
WARNINGS = {
    "forgetful": ("coroutine 'TaskDef.enqueue' was never awaited", "RuntimeWarning"),
    "old": ("use the new one", "UserWarning"),
}


@pytest.fixture
def busy(project):
    def write(task, arguments=""):
        (project / "busy.py").write_text(BUSY.format(task=task, arguments=arguments))

    return write


def lines(text):
    """The log lines, one after the other."""
    return [json.loads(line) for line in text.splitlines()]


def warned(text):
    """What ``worker.warning`` says."""
    return [line["reason"] for line in lines(text) if line["event"] == "worker.warning"]


def test_burst_runs_what_is_due_and_leaves(run):
    job_id = run("enqueue", "tasks:app", "compute", "5").out.strip()
    done = run("worker", "tasks:app", "--burst")
    assert done.code == 0
    assert done.out == ""
    assert json.loads(run("jobs", "show", "tasks:app", job_id, "--json").out)["result"] == 10


def test_the_banner(run):
    banner = lines(run("worker", "tasks", "--burst", "-c", "7").err)[0]
    assert banner["event"] == "worker.starting"
    assert banner["app"] == "tasks"
    assert banner["broker"] == "memory://"
    assert banner["queues"] == ["default", "other"]
    assert banner["concurrency"] == 7
    assert banner["tasks"] == ["tasks.compute", "tasks.fail", "tasks.note", "tasks.typed"]
    assert banner["pid"] == os.getpid()
    assert len(banner["worker_id"]) == 36
    assert banner["timestamp"].endswith("Z")


def test_only_the_queues_asked_for(run):
    waiting = run("enqueue", "tasks:app", "compute", "5").out.strip()
    done = run("worker", "tasks:app", "-q", "other", "-q", "othre", "-q", "x", "--burst")
    banner = lines(done.err)[2]
    assert banner["queues"] == ["other", "othre", "x"]
    assert warned(done.err) == [
        "no task of tasks:app declares the queue 'othre': it gets only what "
        ".options(queue='othre') sends there; did you mean 'other'?",
        "no task of tasks:app declares the queue 'x': it gets only what "
        ".options(queue='x') sends there",
    ]
    assert (
        json.loads(run("jobs", "show", "tasks:app", waiting, "--json").out)["status"] == "pending"
    )


def test_lines_of_a_job_name_it_but_not_its_arguments(run, busy):
    busy("bad", "'4111-1111'")
    done = run("worker", "busy", "--burst")
    failed = next(line for line in lines(done.err) if line["event"] == "job.failed")
    assert failed["level"] == "error"
    assert (failed["task"], failed["queue"], failed["attempt"]) == ("busy.bad", "default", 1)
    assert len(failed["job_id"]) == 36
    assert "ValueError: no" in failed["exception"]
    assert "4111-1111" not in done.err


def test_levels(run, busy):
    busy("good")
    assert lines(run("worker", "busy", "--burst", "--log-level", "error").err) == []
    names = {line["event"] for line in lines(run("worker", "busy", "--burst").err)}
    assert "worker.starting" in names
    assert not any(name.startswith("job.") for name in names)


@pytest.mark.parametrize("words", [["-v"], ["--log-level", "debug"]], ids=" ".join)
def test_debug_tells_of_every_job(run, busy, words):
    busy("good")
    names = [line["event"] for line in lines(run("worker", "busy", "--burst", *words).err)]
    assert "job.completed" in names


def test_console_lines(run):
    done = run("worker", "tasks:app", "--burst", "--log-format", "console")
    assert "[info     ] worker.starting" in done.err
    assert "\x1b" not in done.err


def test_a_console_traceback_shows_no_local_variables(run, busy):
    busy("bad", "'4111-1111'")
    err = run("worker", "busy", "--burst", "--log-format", "console").err
    assert "ValueError: no" in err
    assert "4111-1111" not in err


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        ((), ["watch out"]),
        (("--log-level", "info"), ["progress", "watch out"]),
        (("-v",), ["chatter", "progress", "watch out"]),
        (("--log-level", "ERROR"), []),
    ],
    ids=str,
)
def test_what_a_task_logs_by_logging_is_heard_from_warning_on_or_from_the_level_asked_for(
    run, busy, words, heard
):
    busy("chatty")
    err = run("worker", "busy", "--burst", *words).err
    told = [line for line in lines(err) if line.get("logger") == "lib"]
    assert [line["event"] for line in told] == heard
    assert all(line["task"] == "busy.chatty" and len(line["job_id"]) == 36 for line in told)


@pytest.mark.parametrize("task", ["forgetful", "old"])
def test_a_warning_is_a_line_of_the_log_with_its_place_and_job(run, busy, task):
    busy(task)
    err = run("worker", "busy", "--burst").err
    (line,) = [line for line in lines(err) if line["event"] == "python.warning"]
    assert (line["level"], line["task"], line["attempt"]) == ("warning", f"busy.{task}", 1)
    message, category = WARNINGS[task]
    assert message in line["message"]
    assert line["category"] == category
    number = BUSY.splitlines().index(f"    {CULPRITS[task]}") + 1
    assert line["at"] == f"busy.py:{number}"


def test_console_lines_keep_the_order_in_which_they_are_written(capsys):
    configure_logging("info", "console")
    structlog.get_logger().info("it.happened", zeal=1, awe=2)
    assert "zeal=1 awe=2" in capsys.readouterr().err


def test_a_broker_of_one_process_is_a_warning(run, project):
    (project / "alone.py").write_text("from aioq import Aarq\napp = Aarq('memory://')\n")
    done = run("worker", "alone", "--burst")
    assert done.code == 0
    assert warned(done.err) == [
        "alone has no tasks: import the modules that define them next to the app",
        "the broker memory:// lives inside one process: this worker sees only jobs that "
        "its own tasks enqueue",
    ]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ["tasks:app", "-c", "0"],
            2,
            "concurrency must be a whole number, at least 1 and at most 100000, got 0 "
            "(see 'aioq worker --help')",
        ),
        (
            ["tasks:app", "-q", "a b"],
            2,
            "queue must have 1 to 128 characters without spaces and braces, got 'a b' "
            "(see 'aioq worker --help')",
        ),
        (
            ["tasks:app", "-c", "x"],
            2,
            "invalid value for '-c' / '--concurrency': 'x' is not a valid integer "
            "(see 'aioq worker --help')",
        ),
        (["tasks:ap"], 1, "module 'tasks' has no 'ap'; did you mean 'app'?"),
    ],
)
def test_mistakes(run, words, code, sentence):
    done = run("worker", *words)
    assert (done.code, done.out, done.err) == (code, "", f"error: {sentence}\n")


@pytest.mark.usefixtures("away")
def test_a_store_out_of_reach_at_the_start(run):
    done = run("worker", "away:app", "--log-level", "error")
    assert done.code == 1
    assert done.err.endswith("error: mars://host cannot be reached: no route\n")
    assert "Traceback" not in done.err


# -- as a process ---------------------------------------------------------------------------------


@pytest.fixture
def start(project, environment):
    """Start a worker for ``busy``, wait until its job has written a line; kill it in the end."""

    @contextmanager
    def start(line, *words):
        command = [sys.executable, "-m", "aioq", "worker", "busy", *words]
        out = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=project, env=environment, **out) as process:
            try:
                assert f"{line}\n" in process.stderr, f"it never said {line!r}"
                yield process
            finally:
                process.kill()

    return start


def events(process):
    """What aioq itself logs from now on; a machine with no time for it may look like a blocked
    loop."""
    for text in process.stderr:
        for line in lines(text):
            if line["event"] != "worker.loop_blocked" and "logger" not in line:
                yield line["event"]


def graceful(process, project):
    """Whether its job may end once it has begun to stop."""
    told = events(process)
    assert next(told) == "worker.stopping"
    (project / "go").touch()
    return next(told) == "job.completed" and list(told) and process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_graceful_stop(busy, start, project, number):
    busy("patient")
    with start("running now", "-v") as process:
        process.send_signal(number)
        assert graceful(process, project)


def test_on_trio(busy, start, project):
    busy("patient")
    with start("running now", "-v", "--loop", "trio") as process:
        process.terminate()
        assert graceful(process, project)


def test_trio_that_is_not_there(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "trio", None)
    done = run("worker", "tasks:app", "--burst", "--loop", "trio")
    assert done.code != 0
    assert done.err.splitlines()[-1].endswith("--loop trio needs trio: pip install trio")


def test_a_second_signal_leaves_at_once(busy, start):
    busy("stuck")
    with start("stuck now", "--shutdown-timeout", "3600") as process:
        process.terminate()
        assert next(events(process)) == "worker.stopping"
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            process.terminate()  # what comes soon after the first does not count
            time.sleep(0.05)
        assert process.wait(60) == 128 + signal.SIGTERM


def test_a_plain_function_that_never_ends_does_not_hold_the_exit(busy, start):
    busy("stuck")
    with start("stuck now", "--shutdown-timeout", "0.1") as process:
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("RuntimeError('no way out')", "RuntimeError: no way out"),
        ("AioqError('no way out')", "error: no way out"),
    ],
)
def test_nor_does_it_when_the_end_of_a_lifespan_fails(busy, start, project, error, said):
    busy("stuck")
    code = (project / "busy.py").read_text()
    code = code.replace("    yield\n", f"    yield\n    raise {error}\n")
    (project / "busy.py").write_text(f"from aioq.errors import AioqError\n{code}")
    with start("stuck now", "--shutdown-timeout", "0.1") as process:
        process.terminate()
        assert process.wait(60) == 1
        assert process.stderr.read().splitlines()[-1] == said


def test_a_log_that_nobody_reads_any_more_ends_no_worker(busy, start, project):
    busy("patient")
    with start("running now", "-v", "--burst") as process:
        process.stderr.close()
        (project / "go").touch()
        assert process.wait(60) == 0
