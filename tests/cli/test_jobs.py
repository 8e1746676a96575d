"""``aioq jobs``."""

import io
import json
import re
import sys

import pytest

UNKNOWN = "0198f0a2-1111-7000-8000-000000000001"


@pytest.fixture
def jobs(run):
    """Ids of a completed job, a failed one and one that waits."""
    send = ("enqueue", "tasks:app")
    completed = run(*send, "compute", "5").out.strip()
    failed = run(*send, "fail").out.strip()
    assert run("worker", "tasks:app", "--burst", "--log-level", "error").code == 0
    waiting = run(*send, "note", "secret", "--delay", "1000").out.strip()
    return completed, failed, waiting


def listed(run, *words):
    return [
        job["id"]
        for job in json.loads(run("jobs", "list", "tasks:app", *words, "--json").out)["jobs"]
    ]


def status(run, job_id):
    return json.loads(run("jobs", "show", "tasks:app", job_id, "--json").out)["status"]


def test_list_is_a_table_newest_first(run, jobs):
    completed, failed, waiting = jobs
    done = run("jobs", "list", "tasks:app")
    head, *rows = done.out.splitlines()
    assert head.split() == [
        "ID",
        "STATUS",
        "TASK",
        "QUEUE",
        "ENQUEUED",
        "(UTC)",
        "RETRIES",
        "ERROR",
    ]
    assert [row.split()[:4] for row in rows] == [
        [waiting, "scheduled", "tasks.note", "default"],
        [failed, "failed", "tasks.fail", "other"],
        [completed, "completed", "tasks.compute", "default"],
    ]
    assert (
        len(
            {
                row.index(name)
                for row, name in zip(
                    rows, ["tasks.note", "tasks.fail", "tasks.compute"], strict=True
                )
            }
        )
        == 1
    )
    assert "secret" not in done.out


def test_what_a_job_holds_cannot_steer_the_terminal(run, jobs):
    for words in (["list", "tasks:app"], ["show", "tasks:app", jobs[1]]):
        done = run("jobs", *words)
        assert "\x1b" not in done.out
        assert r"ValueError: boom\x1b[31m" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-q", "defalt"), ": there is no queue 'defalt'; did you mean 'default'?"),
        (("-t", "compute"), ": the app has no task 'compute'; did you mean 'tasks.compute'?"),
        (("-q", "other", "-s", "dead"), ""),
        (("-t", "tasks.typed"), ""),
    ],
    ids=str,
)
def test_an_empty_list_names_what_may_have_been_meant(run, words, said):
    done = run("jobs", "list", "tasks:app", *words)
    assert (done.code, done.out, done.err) == (0, "", f"no jobs{said}\n")


def test_list_filters(run, jobs):
    completed, failed, waiting = jobs
    assert listed(run, "--status", "failed", "--status", "completed") == [failed, completed]
    assert listed(run, "--queue", "other") == [failed]
    assert listed(run, "--task", "tasks.note") == [waiting]


def test_list_pages(run, jobs):
    first = json.loads(run("jobs", "list", "tasks:app", "--limit", "2", "--json").out)
    assert [job["id"] for job in first["jobs"]] == [jobs[2], jobs[1]]
    assert listed(run, "--cursor", first["cursor"]) == [jobs[0]]
    assert (
        run("jobs", "list", "tasks:app", "--limit", "2").err
        == f"more: --cursor {first['cursor']}\n"
    )


def test_an_empty_list(run):
    done = run("jobs", "list", "tasks:app")
    assert (done.code, done.out, done.err) == (0, "", "no jobs\n")


def test_show_prints_every_field(run, jobs):
    completed, failed, _ = jobs
    out = run("jobs", "show", "tasks:app", failed).out
    fields = dict(line.split(":", 1) for line in out.splitlines() if not line.startswith(" "))
    assert fields["id"].strip() == failed
    assert fields["status"].strip() == "failed"
    assert fields["completed_at"].endswith(" UTC")
    assert "    Traceback (most recent call last):" in out
    assert "args" not in fields
    assert re.search(r"^result: +10$", run("jobs", "show", "tasks:app", completed).out, re.M)


def test_show_as_json(run, jobs):
    shown = json.loads(run("jobs", "show", "tasks:app", jobs[0], "--json").out)
    assert list(shown) == [
        "id", "task", "queue", "status", "priority", "retries", "max_retries", "retry_delay",
        "crashes", "worker_id", "enqueued_at", "run_at", "started_at", "completed_at", "error",
        "traceback", "result",
    ]  # fmt: skip
    assert shown["result"] == 10


def test_arguments_are_shown_on_demand(run, jobs):
    assert "secret" not in run("jobs", "show", "tasks:app", jobs[2]).out
    done = run("jobs", "show", "tasks:app", jobs[2], "--args")
    assert re.search(r'^args: +\["secret"\]$', done.out, re.M)
    done = run("jobs", "show", "tasks:app", jobs[0], "--args")
    assert done.err == "the arguments of a completed job are not kept\n"


def test_retry(run, jobs):
    completed, failed, _ = jobs
    done = run("jobs", "retry", "tasks:app", completed, failed, UNKNOWN)
    assert done.code == 1
    assert done.out == f"{failed} pending\n"
    assert done.err == (
        f"error: job {completed} is completed: only failed, dead and cancelled jobs can be "
        f"retried\n"
        f"error: no job {UNKNOWN} is known to the store\n"
    )
    assert status(run, failed) == "pending"


def test_cancel(run, jobs):
    completed, _, waiting = jobs
    done = run("jobs", "cancel", "tasks:app", waiting, completed, UNKNOWN)
    assert (done.code, done.out) == (1, f"{waiting} cancelled\n")
    assert done.err == (
        f"error: job {completed} has finished before\n"
        f"error: no job {UNKNOWN} is known to the store\n"
    )
    assert status(run, waiting) == "cancelled"


def test_delete(run, jobs):
    completed, failed, _ = jobs
    done = run("jobs", "delete", "tasks:app", completed, failed, UNKNOWN, "--yes")
    assert (done.code, done.out) == (1, f"{completed} deleted\n{failed} deleted\n")
    assert done.err == f"error: no job {UNKNOWN} is known to the store\n"
    assert listed(run) == [jobs[2]]


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, 2), ("n\n", 1, 3), ("", 1, 3)], ids=["yes", "no", "end"]
)
def test_delete_asks(run, jobs, answers, answer, code, left):
    answers(answer)
    done = run("jobs", "delete", "tasks:app", jobs[0])
    assert done.code == code
    assert "Delete 1 job?" in done.err + done.out
    assert ("error: nothing was deleted: answer y, or add --yes\n" in done.err) is (code == 1)
    assert len(listed(run)) == left


def test_without_a_terminal_delete_is_refused(run, jobs, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    done = run("jobs", "delete", "tasks:app", jobs[0])
    assert (done.code, done.err) == (
        1,
        "error: nothing was deleted: stdin is no terminal to ask at, add --yes\n",
    )
    assert len(listed(run)) == 3


def test_without_a_command_it_lists(run, jobs):
    assert run("jobs", "tasks:app").out == run("jobs", "list", "tasks:app").out
    assert run("jobs", "--help").out.startswith("Usage: aioq jobs ")


def test_the_app_may_be_left_out(run, jobs, monkeypatch):
    done = run("jobs", "show", jobs[0])
    assert (done.code, done.err) == (
        2,
        "error: name the app (tasks:app), give --broker URL, or set AIOQ_BROKER_URL "
        "(see 'aioq jobs show --help')\n",
    )
    monkeypatch.setenv("AIOQ_BROKER_URL", "mars://x")
    done = run("jobs", "show", jobs[0])
    assert done.code == 1
    assert done.err.startswith("error: no installed broker serves 'mars://x'; ")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["show", "tasks:app"], 2, "give the job's id after 'tasks:app'"),
        (["show", "tasks:app", "x"], 2, "'x' is not a job id (a UUID)"),
        (["show", "tasks:app", UNKNOWN, UNKNOWN], 2, "give one job id"),
        (["show", "--broker", "memory://", "tasks:app"], 2, "'tasks:app' is not a job id (a UUID)"),
        (
            ["list", "tasks:app", "--broker", "memory://"],
            2,
            "give either an app or --broker, not both",
        ),
        (["show", "tasks:app", UNKNOWN], 1, f"no job {UNKNOWN} is known to the store"),
    ],
)
def test_mistakes(run, words, code, sentence):
    done = run("jobs", *words)
    see = f" (see 'aioq jobs {words[0]} --help')" if code == 2 else ""
    assert (done.code, done.out, done.err) == (code, "", f"error: {sentence}{see}\n")


def test_a_broker_of_one_process_shows_nothing(run):
    done = run("jobs", "list", "--broker", "memory://")
    assert (done.code, done.err) == (
        1,
        "error: the broker memory:// lives inside one process: its jobs cannot be reached from "
        "the command line\n",
    )


@pytest.mark.usefixtures("away")
def test_a_store_out_of_reach(run):
    done = run("jobs", "list", "away:app")
    assert (done.code, done.err) == (1, "error: mars://host cannot be reached: no route\n")
