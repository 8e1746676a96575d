"""Every command on every store that processes can share, with its JSON held to the schema."""

import asyncio
from importlib import import_module

import pytest
from acceptance.stores import STORES
from cli.schemas import check

from aioq import Worker
from aioq.worker import WorkerOptions

TASKS = """
from aioq import Aarq

app = Aarq({url!r}{more})


@app.task(save_result=True)
async def compute(ctx, n: int) -> int:
    return n * 2


@app.task(queue="mail")
async def fail(ctx) -> None:
    raise ValueError("boom")
"""
ABSENT = "0198f0a2-1111-7000-8000-000000000001"


@pytest.fixture(scope="module", params=STORES)
def place(request, tmp_path_factory, unavailable):
    store = STORES[request.param]
    if (missing := store.missing()) is not None:
        unavailable(missing)
    place = store.open(tmp_path_factory.mktemp(request.param))
    yield place
    place.close()


@pytest.fixture
def url(place, project):
    url = place.fresh(project)
    (project / "tasks.py").write_text(TASKS.format(url=url, more=""))
    return url


@pytest.fixture
def app(url):
    return import_module("tasks").app


@pytest.fixture
def read(run, url):
    """Run a command with --json, on the URL or, with ``app``, on the app; its document."""

    def read(command, *words, app=False, code=0):
        store = ["tasks:app"] if app else ["--broker", url]
        done = run(*command.split(), *store, *words, "--json")
        assert (done.code, done.err) == (code, ""), done.err
        return check(command, done.out)

    return read


@pytest.fixture
def send(run, url):
    def send(*words, app="tasks:app"):
        done = run("enqueue", app, *words, "--json")
        assert (done.code, done.err) == (0, ""), done.err
        return check("enqueue", done.out)["id"]

    return send


@pytest.fixture
def work(run, url):
    def work():
        assert run("worker", "tasks:app", "--burst", "--log-level", "error").code == 0

    return work


def test_jobs(read, send, work):
    done, failed = send("compute", "5"), send("fail")
    waiting = send("compute", "1", "--delay", "3600")
    work()
    page = read("jobs list", "--limit", "2")
    assert [job["id"] for job in page["jobs"]] == [waiting, failed]
    page = read("jobs list", "--cursor", page["cursor"], app=True)
    assert ([job["id"] for job in page["jobs"]], page["cursor"]) == ([done], None)
    assert read("jobs show", done)["result"] == 10
    assert read("jobs show", waiting, "--args")["args"] == [1]

    answers = read("jobs retry", failed, done, ABSENT, code=1)["jobs"]
    assert [answer["outcome"] for answer in answers] == ["pending", None, None]
    assert answers[2]["error"] == f"no job {ABSENT} is known to the store"
    answers = read("jobs cancel", waiting, done, app=True, code=1)["jobs"]
    assert [answer["outcome"] for answer in answers] == ["cancelled", None]
    answers = read("jobs delete", done, failed, "--yes")["jobs"]
    assert [answer["outcome"] for answer in answers] == ["deleted", "deleted"]
    assert [job["id"] for job in read("jobs list")["jobs"]] == [waiting]


def test_queues(read, send, work, run, url):
    send("fail")
    (mail,) = read("queues list")["queues"]
    assert (mail["name"], mail["pending"], mail["workers"]) == ("mail", 1, 0)
    assert mail["oldest_due"] >= 0
    declared = read("queues list", app=True)["queues"]
    assert [queue["name"] for queue in declared] == ["default", "mail"]

    assert read("queues pause", "mail") == {"queues": [{"name": "mail", "paused": True}]}
    assert read("queues list")["queues"][0]["paused"]
    work()
    assert read("queues list")["queues"][0]["pending"] == 1, "a paused queue gives none"
    head, row = (line.split() for line in run("queues", "--broker", url).out.splitlines())
    assert (row[:2], row[-2:]) == (["mail", "1"], ["NONE", "paused"])
    assert len(head) == len(row)
    done = run("queues", "resume", "tasks:app", "mail", "default")
    assert (done.code, done.out) == (0, "mail resumed\ndefault resumed\n")
    assert read("queues resume", "mail", app=True) == {
        "queues": [{"name": "mail", "paused": False}]
    }
    work()
    assert read("queues list", app=True)["queues"][1]["failed"] == 1


def test_purge(read, send, work, run, url):
    send("compute", "1")
    send("fail")
    work()
    kept = [send("compute", "2"), send("fail")]
    assert read("queues purge", "mail", "-s", "failed", "--dry-run") == {
        "matching": 1,
        "deleted": 0,
    }
    assert read("queues purge", "mail", "default", "-s", "failed", "-s", "completed", "--yes") == {
        "matching": 2,
        "deleted": 2,
    }
    assert [job["id"] for job in read("jobs list")["jobs"]] == kept[::-1]
    done = run("queues", "purge", "tasks:app", "mail", "--yes")
    assert (done.code, done.out, done.err) == (0, "deleted 1 job\n", "")
    done = run("queues", "purge", "tasks:app", "mail", "--yes")
    assert (done.code, done.out, done.err) == (0, "", "no job matches\n")


def test_prune(read, send, work, run, url):
    for words in (["compute", "1"], ["fail"]):
        send(*words)
    work()
    waiting = send("fail")
    assert read("prune", "--older-than", "1h", "--yes") == {"matching": 0, "deleted": 0}
    nothing = {"matching": 1, "deleted": 0}
    for words in (["-q", "mail"], ["-t", "tasks.fail"], ["-s", "failed"]):
        assert read("prune", "--older-than", "0s", *words, "--dry-run") == nothing
    done = run("prune", "tasks:app", "--older-than", "0s", "--dry-run")
    assert (done.code, done.out) == (0, "would delete 2 jobs\n")
    assert read("prune", "--older-than", "0s", "--yes", app=True) == {"matching": 2, "deleted": 2}
    assert [job["id"] for job in read("jobs list")["jobs"]] == [waiting]


def test_many_are_deleted_in_batches(read, app):
    tasks = import_module("tasks")

    async def fill():
        async with app:
            await app.enqueue_many([tasks.fail.job() for _ in range(1100)])

    asyncio.run(fill())
    assert read("queues purge", "mail", "--yes") == {"matching": 1100, "deleted": 1100}


def test_workers(read, run, app):
    async def enter(*, leave):
        async with app:
            await app.broker.beat(worker.describe())
            if leave:
                await app.broker.forget(worker.id)

    worker = Worker(app, WorkerOptions(concurrency=3))
    asyncio.run(enter(leave=False))
    (shown,) = read("workers")["workers"]
    assert (shown["id"], shown["concurrency"], shown["running"]) == (worker.id, 3, 0)
    assert shown["queues"] == ["default", "mail"]
    assert "0/3" in run("workers", "tasks:app").out.splitlines()[1].split()
    assert [queue["workers"] for queue in read("queues list")["queues"]] == [1, 1]
    asyncio.run(enter(leave=True))
    done = run("workers", "tasks:app")
    assert (done.code, done.out, done.err) == (0, "", "no workers\n")


def test_a_namespace_of_its_own(run, url, send, project, monkeypatch):
    (project / "other.py").write_text(TASKS.format(url=url, more=", namespace='other'"))
    if url.startswith("postgresql:"):
        # Tables are made by a command, never in passing; the message names the one that works.
        done = run("enqueue", "other:app", "fail")
        command = f"aioq migrate --broker {url} --namespace other"
        assert done.code == 1
        assert f"'{command}'" in done.err
        assert run(*command.split()[1:]).code == 0
    here, there = send("fail"), send("fail", app="other:app")

    def listed(*words):
        done = run("jobs", "list", "--broker", url, *words, "--json")
        return [job["id"] for job in check("jobs list", done.out)["jobs"]]

    assert listed() == [here]
    assert listed("--namespace", "other") == [there]
    monkeypatch.setenv("AIOQ_NAMESPACE", "other")
    assert listed() == [there]
    assert listed("--namespace", "aioq") == [here]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["jobs", "show", ABSENT], 1, f"no job {ABSENT} is known to the store"),
        (
            ["jobs", "list", "--cursor", "nonsense"],
            1,
            "'nonsense' is no cursor that a listing gave: pass that of the page before, or none",
        ),
        (
            ["queues", "pause", "mial"],
            1,
            "there is no queue 'mial'; did you mean 'mail'?",
        ),
        (["queues", "resume", "xyz"], 1, "there is no queue 'xyz'; queues: mail"),
        (["queues", "purge", "xyz", "--yes"], 1, "there is no queue 'xyz'; queues: mail"),
        (
            ["queues", "purge", "mail"],
            1,
            "nothing was deleted: stdin is no terminal to ask at, add --yes",
        ),
        (
            ["prune", "--older-than", "0s"],
            1,
            "nothing was deleted: stdin is no terminal to ask at, add --yes",
        ),
        (
            ["jobs", "delete", ABSENT],
            1,
            "nothing was deleted: stdin is no terminal to ask at, add --yes",
        ),
    ],
)
def test_mistakes_that_the_store_finds(run, send, url, words, code, sentence):
    send("fail")
    done = run(*words, "--broker", url)
    assert (done.code, done.out, done.err) == (code, "", f"error: {sentence}\n")
