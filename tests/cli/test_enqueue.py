"""``aioq enqueue``."""

import json
import sys
from datetime import UTC, datetime

import pytest


def seen():
    return sys.modules["tasks"].seen


def work(run):
    assert run("worker", "tasks:app", "--burst", "--log-level", "error").code == 0


def test_prints_the_id(run):
    done = run("enqueue", "tasks:app", "compute", "5")
    assert done.code == 0
    job_id = done.out.strip()
    shown = json.loads(run("jobs", "show", "tasks:app", job_id, "--args", "--json").out)
    assert (shown["id"], shown["task"], shown["args"]) == (job_id, "tasks.compute", [5])


def test_arguments_are_json_or_text(run):
    words = ["5", "hello", '"5"', "true", "null", "[1, 2]", '{"a": 1.5}', "NaN", "a b", ""]
    assert run("enqueue", "tasks:app", "note", *words, "--kw", "x=1", "--kw", "y=a=b").code == 0
    work(run)
    assert seen() == [
        ((5, "hello", "5", True, None, [1, 2], {"a": 1.5}, "NaN", "a b", ""), {"x": 1, "y": "a=b"})
    ]


def test_arguments_become_what_the_annotations_say(run):
    point = '{"x": 1, "y": 2}'
    words = ("enqueue", "tasks:app", "typed", "2030-01-31T09:00:00Z", "--kw", f"where={point}")
    assert run(*words).code == 0
    work(run)
    module = sys.modules["tasks"]
    assert seen() == [(datetime(2030, 1, 31, 9, tzinfo=UTC), module.Point(1, 2))]


MODELS = """
from pydantic import BaseModel


class Invoice(BaseModel):
    number: int


@app.task(save_result=True)
async def bill(ctx, invoice: Invoice) -> list[Invoice]:
    return [invoice]
"""


def test_models_are_read_and_shown_as_json(run, project):
    with (project / "tasks.py").open("a") as file:
        file.write(MODELS)
    job_id = run("enqueue", "tasks:app", "bill", '{"number": 7}').out.strip()
    work(run)
    shown = json.loads(run("jobs", "show", "tasks:app", job_id, "--json").out)
    assert shown["result"] == [{"number": 7}]
    refused = run("enqueue", "tasks:app", "bill", '{"number": "seven"}')
    assert refused.code != 0
    assert "argument 'invoice' does not fit its annotation: number: Input should be" in refused.err


def test_a_negative_number_goes_behind_two_dashes(run):
    assert run("enqueue", "tasks:app", "compute", "--", "-5").code == 0
    done = run("enqueue", "tasks:app", "compute", "-5")
    assert done.code == 2
    assert "put -- before arguments that begin with a minus" in done.err


def test_options_of_the_job(run):
    job_id = "0198f0a2-1111-7000-8000-000000000001"
    words = ("--queue", "other", "--delay", "60", "--priority", "3", "--retries", "4")
    done = run("enqueue", "tasks:app", "compute", "5", *words, "--job-id", job_id, "--json")
    job = json.loads(done.out)
    assert job["id"] == job_id
    assert (job["queue"], job["priority"], job["max_retries"]) == ("other", 3, 4)
    assert job["status"] == "scheduled"
    again = run("enqueue", "tasks:app", "compute", "5", "--job-id", job_id)
    assert (again.code, again.err) == (
        1,
        f"error: a job with id {job_id} exists already: it is live, or its record is kept\n",
    )


def test_run_at(run):
    done = run(
        "enqueue", "tasks:app", "compute", "5", "--run-at", "2090-01-31T10:00+01:00", "--json"
    )
    assert json.loads(done.out)["run_at"].startswith("2090-01-31T09:00:00")


def test_a_queue_that_no_task_declares_is_a_warning(run):
    done = run("enqueue", "tasks:app", "compute", "5", "-q", "mail")
    assert done.code == 0
    assert done.err == (
        "warning: no task of this app declares the queue 'mail': a worker serves it only when told "
        "to, 'aioq worker ... -q mail'\n"
    )
    done = run("enqueue", "tasks:app", "compute", "5", "-q", "defualt")
    assert done.err.endswith("'aioq worker ... -q defualt'; did you mean 'default'?\n")


SEE = " (see 'aioq enqueue --help')"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["compte", "5"], 1, "the app has no task 'compte'; did you mean 'tasks.compute'?"),
        (
            ["compute", "--n", "5"],
            2,
            f"there is no option --n; for an argument, --kw n=VALUE{SEE}",
        ),
        (
            ["compute", "5", "--dealy", "5"],
            2,
            f"there is no option --dealy; did you mean --delay?{SEE}",
        ),
        (["compute", "5", "--timeout", "1"], 2, f"--timeout needs --wait{SEE}"),
        (
            ["compute", "5", "--retries", "-1"],
            2,
            f"retries must be a whole number from 0 to 2147483647, got -1{SEE}",
        ),
        (
            ["compute", "5", "--delay", "1", "--run-at", "2030-01-31T09:00Z"],
            2,
            f"give either delay or run_at, not both{SEE}",
        ),
        (
            ["compute", "5", "--run-at", "2030-01-31T09:00"],
            2,
            "invalid value for '--run-at': '2030-01-31T09:00' has no time zone: add Z for UTC, or "
            f"+01:00{SEE}",
        ),
        (
            ["compute", "5", "--run-at", "soon"],
            2,
            f"invalid value for '--run-at': 'soon' is not a time like 2030-01-31T09:00:00Z{SEE}",
        ),
        (
            ["compute", "--kw", "n"],
            2,
            f"invalid value for '--kw': 'n' is not of the form name=value{SEE}",
        ),
        (
            ["compute", "--kw", "n=1", "--kw", "n=2"],
            2,
            f"invalid value for '--kw': 'n' was given twice{SEE}",
        ),
        (
            ["compute", "5", "--job-id", "x"],
            2,
            "job_id must be a UUID, got 'x'; for a business key use uuid.uuid5(NAMESPACE, key)"
            f"{SEE}",
        ),
    ],
)
def test_mistakes(run, words, code, sentence):
    done = run("enqueue", "tasks:app", *words)
    assert (done.code, done.out, done.err) == (code, "", f"error: {sentence}\n")


@pytest.mark.parametrize("words", [["x"], [], ["1", "2"], ["1", "--kw", "m=2"]], ids=str)
def test_arguments_that_do_not_fit(run, words):
    done = run("enqueue", "tasks:app", "compute", *words)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: tasks.compute")
    assert done.err.count("\n") == 1


def test_an_argument_by_its_name_wants_kw(run):
    done = run("enqueue", "tasks:app", "compute", "n=5")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("; 'n=5' is text: give an argument by its name with --kw n=5\n")
    assert run("enqueue", "tasks:app", "compute", "m=5").err.endswith("got `str`\n")


def test_a_task_where_the_app_belongs(run, project):
    done = run("enqueue", "compute", "5")
    assert (done.code, done.err) == (
        1,
        f"error: there is no module 'compute' in {project} or on the import path; the app comes "
        f"first: aioq enqueue tasks:app compute ...\n",
    )
    assert "comes first" not in run("enqueue", "compute:app", "5").err


def test_a_broker_of_one_process_would_lose_the_job(run, project):
    (project / "alone.py").write_text(
        "from aioq import Aarq\napp = Aarq('memory://')\n@app.task\nasync def f(ctx): ...\n"
    )
    done = run("enqueue", "alone", "f")
    assert (done.code, done.err) == (
        1,
        "error: the broker memory:// lives inside one process: its jobs cannot be reached from "
        "the command line\n",
    )


def test_wait_gives_up_after_the_timeout(run):
    done = run("enqueue", "tasks:app", "compute", "5", "--wait", "--timeout", "0.01")
    job_id = done.out.strip()
    assert (done.code, done.err) == (
        1,
        "no worker serves queue 'default' now: start one with 'aioq worker tasks:app'\n"
        f"error: job {job_id} of task 'tasks.compute' has not finished after 0.01 s (does a worker "
        f"serve queue 'default' of memory://?): it is pending\n",
    )


def test_wait_says_that_the_queue_is_paused(run):
    run("queues", "pause", "tasks:app", "default")
    done = run("enqueue", "tasks:app", "compute", "5", "--wait", "--timeout", "0.01")
    assert done.err.splitlines()[0] == (
        "queue 'default' is paused: 'aioq queues resume tasks:app default' ends that"
    )
