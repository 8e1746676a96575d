"""The root command: help, mistakes, warnings, plugin commands, and how it ends."""

import signal
import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from aioq.cli import _root
from aioq.errors import ConfigurationError

COMMANDS = [
    ("worker",),
    ("enqueue",),
    ("jobs",),
    ("jobs", "list"),
    ("jobs", "show"),
    ("jobs", "retry"),
    ("jobs", "cancel"),
    ("jobs", "delete"),
    ("queues",),
    ("queues", "list"),
    ("queues", "pause"),
    ("queues", "resume"),
    ("queues", "purge"),
    ("workers",),
    ("prune",),
    ("plugins",),
    ("migrate",),  # of aioq-postgres
]


def test_version(run):
    done = run("--version")
    assert (done.code, done.out) == (0, f"aioq {version('aioq-core')}\n")


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_help_fits_on_a_screen_and_has_an_example(run, words):
    done = run(*words, "--help")
    assert done.code == 0
    assert "Example" in done.out
    assert len(done.out.splitlines()) <= 30
    assert max(map(len, done.out.splitlines())) <= 80


def test_without_a_command_it_shows_the_help(run):
    assert run().out == run("--help").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["wroker"], "there is no command 'wroker'; did you mean 'worker'? (see 'aioq --help')"),
        (
            ["jobs", "lst"],
            "there is no command 'lst'; did you mean 'list'? (see 'aioq jobs --help')",
        ),
        (
            ["jobs"],
            "name the app (tasks:app), give --broker URL, or set AIOQ_BROKER_URL "
            "(see 'aioq jobs list --help')",
        ),
        (["worker"], "missing argument 'APP' (see 'aioq worker --help')"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(run, words, sentence):
    done = run(*words)
    assert (done.code, done.out, done.err) == (2, "", f"error: {sentence}\n")


@pytest.mark.parametrize("group", ["jobs", "queues"])
def test_a_group_lists_for_a_module_alone(run, group):
    """Only a module that is there is taken for one."""
    assert run(group, "tasks").out == run(group, "list", "tasks").out
    assert run(group, "tasks").code == 0
    assert "there is no command 'taks'" in run(group, "taks").err


def test_no_near_command_lists_all(run):
    assert run("xyz").err == (
        "error: there is no command 'xyz'; commands: enqueue, jobs, migrate, plugins, prune, "
        "queues, worker, workers (see 'aioq --help')\n"
    )


def test_an_unknown_option_names_the_command(run):
    done = run("plugins", "--foo")
    assert done.code == 2
    assert done.err.lower().startswith("error: no such option")
    assert done.err.endswith("(see 'aioq plugins --help')\n")
    assert done.err.count("\n") == 1


# -- plugin commands ----------------------------------------------------------------------------


@click.command("greet", help="Say hello.")
def greet() -> None:
    click.echo("hello")


@click.command("worker")
def thief() -> None:
    raise AssertionError


@click.command("broken")
def broken() -> None:
    raise ConfigurationError("the greeting\nis not configured")


class Plugins:
    def __init__(self, *commands: click.Command) -> None:
        self._commands = commands

    def commands(self) -> tuple[click.Command, ...]:
        return self._commands


@pytest.fixture
def plugins(monkeypatch):
    def use(*commands: click.Command) -> None:
        monkeypatch.setattr(_root, "registry", lambda: Plugins(*commands))

    return use


def test_a_plugin_brings_a_command(run, plugins):
    plugins(greet)
    assert run("greet").out == "hello\n"
    assert "Say hello." in run("--help").out


def test_an_error_in_it_is_one_sentence(run, plugins):
    plugins(broken)
    done = run("broken")
    assert (done.code, done.err) == (1, "error: the greeting is not configured\n")


def test_verbose_shows_the_traceback_before_the_sentence(run, plugins):
    plugins(broken)
    done = run("-v", "broken")
    assert done.err.startswith("Traceback")
    assert done.err.endswith("\nerror: the greeting is not configured\n")


def test_a_plugin_cannot_take_the_name_of_a_command(run, plugins):
    plugins(thief, greet, greet)
    done = run("--help")
    assert "Run the jobs of an app." in done.out
    module = greet.callback.__module__
    assert done.err == (
        f"warning: the command 'worker' of {module} is not used: aioq has one of this name\n"
        f"warning: the command 'greet' of {module} is not used: {module} has one of this name\n"
    )


# -- the process --------------------------------------------------------------------------------


def test_python_m_aioq_is_aioq(shell):
    done = shell("--version")
    assert (done.code, done.out) == (0, f"aioq {version('aioq-core')}\n")


def test_ctrl_c_prints_no_traceback(project):
    (project / "slow.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "aioq", "enqueue", "slow:app", "x"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait(60) == 130


@pytest.mark.parametrize("words", ["plugins", "--help"])
@pytest.mark.parametrize("more", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_closed_pipe_is_no_error(project, environment, words, more):
    done = subprocess.run(
        # the reader has gone before the first line is written
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m aioq {words} | true"],
        env=environment | more,
        cwd=project,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_knows_the_commands(shell):
    done = shell(_AIOQ_COMPLETE="bash_complete", COMP_WORDS="aioq wo", COMP_CWORD="1")
    assert done.out == "plain,worker\nplain,workers\n"


def test_help_imports_no_driver(project):
    script = (
        "import sys\nfrom aioq.cli import main\nmain(['--help'])\n"
        "drivers = {'asyncpg', 'opentelemetry', 'redis', 'sqlite3', 'uvloop'}\n"
        "print(sorted(drivers & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=180
    )
    assert done.stdout.splitlines()[-1] == "[]"
