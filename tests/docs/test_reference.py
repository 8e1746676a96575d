"""What the pages list is what the code has: options, defaults, events, errors, cases, modules."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

import aioq
from aioq import _wire, backends, errors
from aioq._options import JobOptions, TaskOptions
from aioq.cli._root import root as root_command
from aioq.middleware import Order
from aioq.plugins import BaseBroker, Status
from aioq.testing.conformance import CASES
from aioq.worker import WorkerOptions

SOURCE = Path(aioq.__file__).parent
HELP = {"-h", "--help"}
MODULES = ("errors", "middleware", "plugins", "testing")


# -- the command line ---------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, by its words."""

    def below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield words, command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from below(f"{words} {name}", found)

    yield from below("aioq", root_command)


def options_of(command: click.Command) -> set[str]:
    options = [p for p in command.params if isinstance(p, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


def named_in(rows: list[list[str]]) -> set[str]:
    return {name for row in rows for name in re.findall(r"(?<![\w-])--?[a-z][\w-]*", row[0])}


def names_in(rows: list[list[str]]) -> set[str]:
    """The names in the first column, which may hold several."""
    return {name for row in rows for name in row[0].split(", ")}


COMMANDS = dict(commands())


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_has_a_section_with_its_arguments_and_options(words, page, table):
    command = COMMANDS[words]
    context = click.Context(command)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    heading = " ".join([words, *arguments])
    assert re.search(rf"^##+ {re.escape(heading)}$", page("cli"), re.M), heading
    if words == "aioq worker":
        rows = table(page("worker"), "Options")
    else:
        rows = table(page("cli"), heading)
    assert named_in(rows) - HELP == options_of(command)


def test_the_options_of_aioq_itself(page, table):
    assert named_in(table(page("cli"), "aioq")) - HELP == options_of(root_command)


def test_no_section_is_about_a_command_that_is_not_there(page):
    sections = re.findall(r"^##+ (aioq(?: [a-z]+)*)", page("cli"), re.M)
    groups = {words.rpartition(" ")[0] for words in COMMANDS}
    assert set(sections) == COMMANDS.keys() | groups


def test_defaults_of_the_worker(page, table):
    written = {row[0]: row[1] for row in table(page("worker"), "Options")}
    for option in COMMANDS["aioq worker"].params:
        default = option.to_info_dict()["default"]
        if isinstance(option, click.Option) and not option.is_flag and default is not None:
            if option.multiple:
                continue
            (cell,) = [written[key] for key in written if option.opts[-1] in key]
            assert cell == (f"{default:g}" if isinstance(default, float) else str(default))


def test_the_worker_options_that_only_code_can_set(page):
    offered = {p.name for p in COMMANDS["aioq worker"].params}
    only_code = [
        f"`{field.name}` ({field.default:g} s)"
        for field in dataclasses.fields(WorkerOptions)
        if field.name not in offered
    ]
    assert all(text in page("worker") for text in only_code), only_code


# -- tasks --------------------------------------------------------------------------------------


def test_the_options_of_a_task_with_their_defaults(page, table):
    rows = table(page("tasks"), "Options of a task")
    documented = {row[0]: row[2] for row in rows}
    real = {}
    for field in dataclasses.fields(TaskOptions):
        default = field.default
        text = f'"{default}"' if isinstance(default, str) else str(default)
        real[field.name] = default.__name__ if isinstance(default, type) else text
    assert documented == real


def test_the_options_table_of_the_specification_is_there_letter_for_letter(page):
    for line in (
        '| `queue` | `str` | `"default"` | Queue name |',
        "| `retries` | `int` | `0` | Max retry attempts |",
        "| `retry_delay` | `float` | `5.0` | Seconds between retries |",
        "| `save_result` | `bool` | `False` | Persist return value |",
        "| `result_ttl` | `int` | `3600` | Result TTL in seconds (Redis) |",
    ):
        assert line in page("tasks")


def test_the_options_of_one_job(page, table):
    rows = table(page("tasks"), "Options of one job")
    assert names_in(rows) == set(JobOptions.__annotations__)


def test_the_keys_of_ctx(page, table):
    documented = {
        name for row in table(page("tasks"), "The ctx argument") for name in row[0].split(", ")
    }
    executor = inspect.getsource(aioq.Worker._run) + (SOURCE / "worker/_executor.py").read_text()
    built = re.search(r"Context\[Any\] = Context\((.*?)\n        \)", executor, re.S)
    assert built is not None
    assert documented == set(re.findall(r"^ +(\w+)=", built[1], re.M))


def test_the_statuses(page):
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", page("tasks").split("## Waiting")[1], re.M)
    assert tuple(rows) == get_args(Status)


@pytest.mark.parametrize("name", ["aioq", "aioq.backends", *(f"aioq.{n}" for n in MODULES)])
def test_the_public_names_of_a_module(name, page):
    (section,) = re.findall(rf"^## {re.escape(name)}$(.*?)^<!--", page("api"), re.M | re.S)
    public = set(importlib.import_module(name).__all__)
    if name == "aioq.backends":
        public |= set(dir(backends))
    assert set(re.findall(r"`(\w+)`", section)) == public


# -- the rest -----------------------------------------------------------------------------------


def test_every_event_of_the_log_is_explained_and_no_other(page, table):
    source = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    logged = set(re.findall(r'"((?:job|worker|broker|middleware|python)\.[a-z_]+)"', source))
    assert {row[0] for row in table(page("worker"), "Logs")} == logged


def test_the_error_tree_is_the_one_of_the_module(page):
    doc = inspect.cleandoc(errors.__doc__ or "")
    (tree,) = re.findall(r"^    AioqError\n(?:    .*\n)+", doc, re.M)
    assert inspect.cleandoc(tree) in page("errors")


def test_every_error_is_explained(page):
    prose = re.sub(r"^```.*?^```$", "", page("errors"), flags=re.M | re.S)
    bases = {"AioqError", "BrokerError", "JobError"}
    assert not [name for name in errors.__all__ if f"`{name}`" not in prose and name not in bases]


def test_the_slots_of_middleware(page, table):
    documented = {row[0]: int(row[1]) for row in table(page("middleware"), "Order")}
    assert documented == {order.name: int(order) for order in Order}


def test_the_methods_of_a_broker(page):
    text = page("brokers")
    documented = set(re.findall(r"`(\w+)(?:\([^)`]*\))?`[^|]*\|", text.split("## Methods")[1]))
    abstract = BaseBroker.__abstractmethods__
    assert abstract <= documented | {"close"}
    optional = text.split("You may leave out")[1].split("The methods for users")[0]
    for name, arguments in re.findall(r"`(\w+)\(([^)`]*)\)`", optional):
        real = list(inspect.signature(getattr(BaseBroker, name)).parameters)[1:]
        assert arguments.split(", ") == real or (not arguments and not real), name


def test_the_envelope_is_what_is_written(page):
    def hex_after(mark: str) -> str:
        (found,) = re.findall(rf"<!-- {mark} -->\n```text\n(.*?)```", page("envelope"), re.S)
        return "".join(found.split())

    policy = _wire.Policy(max_retries=3, retry_delay=30.0, save_result=True)
    assert hex_after("policy") == _wire.encode_policy(policy).hex()
    body = _wire.encode_body("application/json", b"[[5],{}]", {"tenant": "acme"})
    assert hex_after("body") == body.hex()
    assert _wire.MAJOR == 1


def test_the_fields_of_the_envelope(page, table):
    names = [row[1] for row in table(page("envelope"), "Policy")]
    assert names == list(_wire.Policy.__struct_fields__)
    body = page("envelope").split("| position | name | type | meaning |")[1]
    assert re.findall(r"^\| \d \| `(\w+)`", body, re.M) == list(_wire.Body.__struct_fields__)
    assert [row[0] for row in table(page("envelope"), "Note")] == list(_wire.Note.__struct_fields__)


def test_guarantees_name_cases_and_tests_that_exist(page, root):
    text = page("guarantees")
    lists = re.findall(r"\b[Cc]ases? (\d+(?:, \d+)*)", text)
    numbers = {int(number) for one in lists for number in one.split(", ")}
    assert numbers <= CASES.keys()
    tests = set(re.findall(r"`(test_\w+)`", text))
    assert tests
    files = [*root.glob("tests/**/*.py"), *(SOURCE / "testing").rglob("*.py")]
    defined = set(re.findall(r"def (test_\w+)", "".join(f.read_text("utf-8") for f in files)))
    assert tests <= defined, sorted(tests - defined)


def test_every_module_has_its_line_in_the_architecture(page, table):
    documented = {
        n for row in table(page("architecture"), "Modules of aioq") for n in row[0].split(", ")
    }
    modules = {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}
    folders = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    assert documented == modules | folders
