"""Several processes on one SQLite file: from enqueue to result."""

import json
import signal
import subprocess
import sys

import pytest

TASKS = """
import asyncio

from aioq import Aarq

app = Aarq({broker})


@app.task(save_result=True)
async def compute(ctx, n: int) -> int:
    return n * 2


@app.task
async def silent(ctx) -> None: ...


@app.task
async def fail(ctx) -> None:
    raise ValueError("boom")
"""


@pytest.fixture
def tasks(project):
    def write(broker):
        (project / "tasks.py").write_text(TASKS.format(broker=broker))

    write("'sqlite:///jobs.db'")
    return write


@pytest.mark.usefixtures("tasks")
def test_each_command_in_a_process_of_its_own(shell, project):
    sent = shell("enqueue", "tasks:app", "compute", "5")
    assert (sent.code, sent.err) == (0, "")
    job_id = sent.out.strip()

    worked = shell("worker", "tasks:app", "--burst")
    assert worked.code == 0
    assert str(project / "jobs.db") in json.loads(worked.err.splitlines()[0])["broker"]

    shown = shell("jobs", "show", "--broker", "sqlite:///jobs.db", job_id, "--json")
    assert json.loads(shown.out)["result"] == 10
    listed = shell("jobs", "list", AIOQ_BROKER_URL="sqlite:///jobs.db")
    assert job_id in listed.out
    deleted = shell("jobs", "delete", "tasks:app", job_id, "--yes")
    assert deleted.out == f"{job_id} deleted\n"
    assert shell("jobs", "list", "tasks:app").err == "no jobs\n"


def test_the_default_store_is_named_in_one_line(tasks, shell, project):
    tasks("")
    told = (
        f"no broker was given and AIOQ_BROKER_URL is not set: jobs are kept in "
        f"{project / 'aioq.db'}"
    )
    assert shell("enqueue", "tasks:app", "silent").err == f"warning: {told}\n"
    warned, banner, *_ = map(json.loads, shell("worker", "tasks:app", "--burst").err.splitlines())
    assert (warned["event"], warned["message"]) == ("python.warning", told)
    assert "at" not in warned, "it is about no line of the user's"
    assert str(project / "aioq.db") in banner["broker"]


@pytest.mark.usefixtures("tasks")
def test_wait(shell, project, environment):
    worker = subprocess.Popen(
        [sys.executable, "-m", "aioq", "worker", "tasks:app", "--log-format", "json"],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert any('"worker.started"' in line for line in worker.stderr)
        wait = ("--wait", "--timeout", "120")
        done = shell("enqueue", "tasks:app", "compute", "5", *wait)
        assert (done.code, done.err) == (0, "")
        job_id, result = done.out.splitlines()
        assert (len(job_id), result) == (36, "10")

        done = shell("enqueue", "tasks:app", "compute", "5", *wait, "--json")
        assert json.loads(done.out)["result"] == 10

        done = shell("enqueue", "tasks:app", "silent", *wait)
        job_id = done.out.strip()
        assert (done.code, done.err) == (0, f"job {job_id} of task 'tasks.silent' completed\n")

        done = shell("enqueue", "tasks:app", "fail", *wait)
        job_id = done.out.strip()
        assert (done.code, done.err) == (
            1,
            f"error: job {job_id} of task 'tasks.fail' ended failed: ValueError: boom\n",
        )

        done = shell("enqueue", "tasks:app", "fail", *wait, "--json")
        assert (done.code, json.loads(done.out)["error"]) == (1, "ValueError: boom")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.communicate()


def test_a_folder_that_does_not_exist(tasks, shell, project):
    tasks("'sqlite:///nowhere/jobs.db'")
    done = shell("worker", "tasks:app")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"error: the directory {project / 'nowhere'}")
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("tasks")
def test_a_health_port_that_is_taken(shell, project):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = shell("worker", "tasks:app", "--health-port", port)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: ")
    assert port in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", [["plugins"], ["plugins", "--json"]], ids=" ".join)
def test_the_plugin_is_listed(shell, words):
    assert "SQLiteBroker" in shell(*words).out
