"""``aioq queues``, ``workers``, ``prune``: wrong uses, questions, stores that are not there."""

import click
import pytest
from cli.schemas import COMMANDS, SCHEMA, check
from jsonschema import Draft202012Validator

from aioq.cli._root import root

ABSENT = "0198f0a2-1111-7000-8000-000000000001"
ON_A_STORE = [
    ["jobs", "list"],
    ["jobs", "show", ABSENT],
    ["jobs", "retry", ABSENT],
    ["jobs", "cancel", ABSENT],
    ["jobs", "delete", ABSENT, "--yes"],
    ["queues", "list"],
    ["queues", "pause", "mail"],
    ["queues", "resume", "mail"],
    ["queues", "purge", "mail", "--yes"],
    ["workers"],
    ["prune", "--older-than", "1d", "--yes"],
]


@pytest.mark.parametrize("words", ON_A_STORE, ids=" ".join)
def test_a_store_that_is_not_there_is_not_made(run, project, words):
    done = run(*words, "--broker", "sqlite:///typo.db")
    assert (done.code, done.out, done.err) == (
        1,
        "",
        f"error: there is no store at sqlite:///{project / 'typo.db'}: the first worker or "
        f"enqueue makes it\n",
    )
    assert not list(project.glob("typo*"))


@pytest.mark.parametrize("words", ON_A_STORE, ids=" ".join)
def test_memory_cannot_be_reached_from_another_process(run, words):
    done = run(*words, "--broker", "memory://")
    assert (done.code, done.out, done.err) == (
        1,
        "",
        "error: the broker memory:// lives inside one process: its jobs cannot be reached from "
        "the command line\n",
    )


@pytest.mark.parametrize("words", ON_A_STORE, ids=" ".join)
@pytest.mark.usefixtures("away")
def test_a_store_out_of_reach(run, words):
    command = [word for word in words if word.isalpha() and word != "mail"]
    done = run(*command, "away:app", *words[len(command) :])
    assert (done.code, done.out, done.err) == (
        1,
        "",
        "error: mars://host cannot be reached: no route\n",
    )


APP_OR_URL = "name the app (tasks:app), give --broker URL, or set AIOQ_BROKER_URL"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["queues"], 2, f"{APP_OR_URL} (see 'aioq queues list --help')"),
        (
            ["queues", "lst", "tasks:app"],
            2,
            "there is no command 'lst'; did you mean 'list'? (see 'aioq queues --help')",
        ),
        (
            ["queues", "list", "tasks:app", "--broker", "memory://"],
            2,
            "give either an app or --broker, not both (see 'aioq queues list --help')",
        ),
        (
            ["queues", "list", "tasks:app", "--namespace", "shop"],
            2,
            "--namespace goes with --broker: an app has its own (see 'aioq queues list --help')",
        ),
        (
            ["queues", "list", "--broker", "memory://", "--namespace", "Shop"],
            1,
            "a namespace is a name of 1 to 40 of the characters a-z, 0-9, _ and -, beginning with "
            "a letter or digit, got 'Shop'",
        ),
        (
            ["queues", "tasks:app", "--watch"],
            2,
            "--watch is for a terminal and without --json: list again and again instead "
            "(see 'aioq queues list --help')",
        ),
        (
            ["queues", "tasks:app", "--interval", "0"],
            2,
            "invalid value for '--interval': 0.0 is not in the range 0.1<=x<=3600 "
            "(see 'aioq queues list --help')",
        ),
        (
            ["queues", "pause"],
            2,
            "missing argument '[APP] QUEUE...' (see 'aioq queues pause --help')",
        ),
        (
            ["queues", "pause", "tasks:app"],
            2,
            "give the app (or --broker) and the name of a queue, not only 'tasks:app' "
            "(see 'aioq queues pause --help')",
        ),
        (["queues", "pause", "tasks:app", "x"], 1, "there is no queue 'x'; queues: default, other"),
        (
            ["queues", "resume", "tasks:app", "othr"],
            1,
            "there is no queue 'othr'; did you mean 'other'?",
        ),
        (
            ["queues", "purge", "tasks:app", "other", "-s", "running"],
            2,
            "invalid value for '-s' / '--status': 'running' is not one of 'pending', 'scheduled', "
            "'retrying', 'completed', 'failed', 'cancelled', 'dead' "
            "(see 'aioq queues purge --help')",
        ),
        (["workers"], 2, f"{APP_OR_URL} (see 'aioq workers --help')"),
        (["prune", "tasks:app"], 2, "missing option '--older-than' (see 'aioq prune --help')"),
        (
            ["prune", "tasks:app", "--older-than", "30"],
            2,
            "invalid value for '--older-than': '30' is no duration: write a number and s, m, h, d "
            "or w, like 30d (see 'aioq prune --help')",
        ),
        (
            ["prune", "tasks:app", "--older-than", "99999d"],
            2,
            "invalid value for '--older-than': '99999d' is longer than a century "
            "(see 'aioq prune --help')",
        ),
        (
            ["prune", "tasks:app", "--older-than", "30d", "-s", "pending"],
            2,
            "invalid value for '-s' / '--status': 'pending' is not one of 'completed', 'failed', "
            "'cancelled', 'dead' (see 'aioq prune --help')",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(run, words, code, sentence):
    done = run(*words)
    assert (done.code, done.out, done.err) == (code, "", f"error: {sentence}\n")


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("", 1, 1)], ids=["yes", "no", "end"]
)
@pytest.mark.parametrize(
    "words",
    [["queues", "purge", "tasks:app", "other"], ["prune", "tasks:app", "--older-than", "0s"]],
)
def test_deleting_asks(run, answers, words, answer, code, left):
    run("enqueue", "tasks:app", "fail")
    run("worker", "tasks:app", "--burst", "--log-level", "error")
    answers(answer)
    done = run(*words)
    assert done.code == code
    assert "Delete 1 job at memory://?" in done.err + done.out
    assert ("error: nothing was deleted: answer y, or add --yes\n" in done.err) is (code == 1)
    assert len(check("jobs list", run("jobs", "tasks:app", "--json").out)["jobs"]) == left


def test_the_queues_may_stand_alone_when_the_environment_names_the_store(run, project, monkeypatch):
    monkeypatch.setenv("AIOQ_BROKER_URL", "sqlite:///jobs.db")
    (project / "plain.py").write_text(
        "from aioq import Aarq\napp = Aarq()\n@app.task\nasync def job(ctx): ...\n"
    )
    assert run("enqueue", "plain:app", "job").code == 0
    assert run("queues", "pause", "default").out == "default paused\n"
    assert run("queues", "pause", "nope", "default").err.startswith("error: there is no queue 'nop")
    assert run("queues", "resume", "plain:app", "default").out == "default resumed\n"


# -- the documented JSON --------------------------------------------------------------------------


def test_every_command_with_json_has_a_schema_and_no_other():
    def below(words, command):
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from below([*words, name], command.get_command(context, name))
        elif any("--json" in parameter.opts for parameter in command.params):
            yield " ".join(words)

    assert sorted(below([], root)) == COMMANDS


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("words", [[], ["tasks:app"]], ids=" ".join)
def test_plugins(run, words):
    check("plugins", run("plugins", *words, "--json").out)
