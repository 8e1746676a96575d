"""The blocks of the pages: Python compiles, and what a page marks is run; the rest is read by what
would read it, shells' lines with `aioq` by its command line.

A comment before a block says what becomes of it::

    <!-- file tasks.py -->         it belongs to the page's module `tasks`
    <!-- runs -->                  it is run; `await` is allowed at its top
    <!-- runs with a worker -->    the same, while a worker serves the app of `tasks`

The blocks of a page share their names. `print(...)  # text` in a block that runs prints `text`.
What is not run here is type-checked by tests/typing/check_pages.py.
"""

import ast
import asyncio
import configparser
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from aioq import Aarq, Worker, backends
from aioq.cli._root import root as root_command

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("aioq-*/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>file|runs)(?P<rest>[^\n]*) -->\n)?```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass
class Block:
    where: str
    mark: str | None
    rest: str
    code: str

    def compiled(self) -> Any:
        return compile(self.code, self.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    return [
        Block(
            f"{path.name}:{text[: match.start('code')].count(chr(10)) + 1}",
            match["mark"],
            (match["rest"] or "").strip(),
            match["code"],
        )
        for match in BLOCK.finditer(text)
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_mark_belongs_to_a_block(path: Path):
    marks = re.findall(r"^<!-- (?:file|runs)", path.read_text("utf-8"), re.M)
    assert len(marks) == sum(block.mark is not None for block in blocks_of(path))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_block_compiles(path: Path):
    for block in blocks_of(path):
        block.compiled()


@pytest.mark.parametrize(
    "path", [path for path in PAGES if any(b.mark for b in blocks_of(path))], ids=name_of
)
async def test_marked_blocks_run_and_print_what_they_say(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    monkeypatch.chdir(tmp_path)
    tasks, text = ModuleType("tasks"), ModuleType("page")
    monkeypatch.setitem(sys.modules, "tasks", tasks)
    monkeypatch.setitem(sys.modules, "page", text)
    found_before = set(vars(backends))
    try:
        for block in blocks_of(path):
            if block.mark == "file":
                assert block.rest == "tasks.py"
                if "RedisBroker()" in block.code:
                    url = request.getfixturevalue("redis_url")
                    block.code = block.code.replace("RedisBroker()", f"RedisBroker({url!r})")
                exec(block.compiled(), vars(tasks))  # the page is our own
            elif block.rest == "with a worker":
                async with a_worker_of(tasks.app):
                    await run(block, text)
            elif block.mark == "runs":
                assert not block.rest
                await run(block, text)
    finally:
        for name in vars(backends).keys() - found_before:
            delattr(backends, name)  # found lazily: no other test shall see that it was
        for module in (tasks, text):
            if isinstance(app := getattr(module, "app", None), Aarq):
                await app.close()


@asynccontextmanager
async def a_worker_of(app: Aarq) -> AsyncIterator[None]:
    worker = Worker(app)
    running = asyncio.create_task(worker.run())
    await app.open()  # the worker before this one closed the broker, which they all share here
    try:
        yield
    finally:
        worker.stop()
        await running


async def run(block: Block, module: ModuleType) -> None:
    printed: list[str] = []
    names = vars(module)
    names["print"] = lambda *values: printed.append(" ".join(map(str, values)))
    result = eval(block.compiled(), names)
    if inspect.iscoroutine(result):
        await asyncio.wait_for(result, 120)
    promised = re.findall(r"^ *print\(.*\) +# (.*)$", block.code, re.M)
    assert not promised or printed == promised, block.where


# -- other languages ----------------------------------------------------------------------------


def fenced(path: Path) -> list[tuple[str, str]]:
    """Language and text of each block that is not Python."""
    blocks = re.findall(r"^( *)```([^\n]*)\n(.*?)^ *```$", path.read_text("utf-8"), re.M | re.S)
    return [(kind, inspect.cleandoc(text)) for _, kind, text in blocks if kind != "python"]


def commands_in(kind: str, text: str) -> list[str]:
    """The command lines of a shell's block, continued ones joined."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    if kind == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return lines


def check_shell(kind: str, text: str) -> None:
    commands = commands_in(kind, text)
    assert commands, text
    script = "\n".join(commands)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    for call in re.findall(r"(?:^|[|;&] *)(?:\S+/)?aioq( [^|;&\n]*)", script, re.M):
        words = shlex.split(call, comments=True)
        root_command.main(words, prog_name="aioq", standalone_mode=False)


READERS = {
    "console": check_shell,
    "dockerfile": lambda kind, text: None,  # tests/docs/test_deploy.py has the file
    "ini": lambda kind, text: configparser.ConfigParser(strict=False).read_string(text),
    "json": lambda kind, text: json.loads(text),
    "sh": check_shell,
    "text": lambda kind, text: None,
    "toml": lambda kind, text: tomllib.loads(text),
    "yaml": lambda kind, text: list(yaml.safe_load_all(text)),
}


@pytest.mark.parametrize("path", [path for path in PAGES if fenced(path)], ids=name_of)
def test_blocks_of_other_languages_are_readable(path: Path, monkeypatch: pytest.MonkeyPatch):
    # words are parsed, and then nothing is done
    monkeypatch.setattr(click.Command, "invoke", lambda command, context: None)
    for kind, text in fenced(path):
        READERS[kind](kind, text)
