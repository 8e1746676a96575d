"""What a command of docs/install.md brings along: what the page says, and nothing else."""

import json
import re
from pathlib import Path

import pytest
from install.environment import Environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text("utf-8")

CORE = {"aioq-core", "anyio", "click", "msgspec", "pluggy", "structlog"}
THEIRS = {"idna", "sniffio", "typing-extensions"}
"""What those need in turn; not on every Python."""


def rows(*titles: str) -> list[list[str]]:
    """The table with these titles, without its code marks."""
    head = r"\| " + r" \| ".join(titles) + r" \|\n\| [- |]*\n((?:\|.*\n)+)"
    (found,) = re.finditer(head, PAGE)
    lines = found[1].replace("`", "").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


SETS = {row[1]: row for row in rows("you have", "command", "brings, besides core", "MB, at most")}
LIMIT = float(re.findall(r"less than (\d+) MB", PAGE)[0])
EXTRAS = dict(row[:2] for row in rows("command", "installs"))


def brought_by(command: str) -> set[str]:
    """Distributions that the page says come with a command, besides core and its libraries."""
    names = re.split(r",? and |, ", SETS[command][2].partition(":")[0])
    own = command.removeprefix("pip install ")
    return ({own, *names} - {"", "nothing", "aioq-core"}) | {"aioq-core"}


@pytest.mark.parametrize("command", SETS)
def test_a_package_brings_core_and_its_driver(command: str, environment: Environment):
    done = environment.run(command)
    assert done.returncode == 0, done.stdout
    assert environment.installed() - CORE - THEIRS == brought_by(command) - CORE
    assert environment.installed() >= CORE
    assert environment.size() < LIMIT + float(SETS[command][3])


def test_core_is_as_small_and_as_light_as_the_page_says(environment: Environment):
    assert environment.run("pip install aioq-core").returncode == 0
    assert environment.size() < LIMIT
    modules = environment.run(
        "python -I -c 'import aioq, json, sys; print(json.dumps([*sys.modules]))'"
    )
    loaded = {name.partition(".")[0] for name in json.loads(modules.stdout)}
    there = {path.name.removesuffix(".py") for path in environment.site.iterdir()}
    said = {"aioq", "anyio", "msgspec", "pluggy", "structlog"}
    assert loaded & there - {name.replace("-", "_") for name in THEIRS} == said
    assert environment.run("python -m aioq plugins").stdout.count("\n") == 2


@pytest.mark.parametrize("command", [c for c in EXTRAS if not re.search(r"\[(all|testing)\]", c)])
def test_an_extra_is_the_package_of_its_name(command: str, environment: Environment):
    done = environment.run(command)
    assert done.returncode == 0, done.stdout
    wanted = brought_by(f"pip install {EXTRAS[command]}")
    assert environment.installed() - CORE - THEIRS == wanted - CORE


def test_all_is_all_of_them(environment: Environment):
    done = environment.run('pip install "aioq-core[all]"')
    assert done.returncode == 0, done.stdout
    wanted = set().union(*map(brought_by, SETS))
    assert environment.installed() - CORE - THEIRS == wanted - CORE
    assert environment.run("aioq plugins").returncode == 0
