"""A project folder, the command line in this process, and the real one in another."""

import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from aioq.cli import main

# MemoryBroker, but allowed to be reached from "another process": the same module stays loaded.
TASKS = """
from dataclasses import dataclass
from datetime import datetime

from aioq import Aarq
from aioq.backends import MemoryBroker


class Shared(MemoryBroker):
    capabilities = MemoryBroker.capabilities._replace(multi_process=True)


@dataclass
class Point:
    x: int
    y: int


broker = Shared()
app = Aarq(broker)
seen = []


@app.task(save_result=True)
async def compute(ctx, n: int) -> int:
    return n * 2


@app.task(queue="other")
async def fail(ctx) -> None:
    raise ValueError("boom\\x1b[31m")


@app.task
async def note(ctx, *args, **kwargs) -> None:
    seen.append((args, kwargs))


@app.task
async def typed(ctx, at: datetime, where: Point) -> None:
    seen.append((at, where))
"""


@dataclass(frozen=True)
class Run:
    """How one command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with ``tasks.py``; what is imported from it is forgotten after."""
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIOQ_BROKER_URL", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def away(project: Path) -> None:
    """``away.py``: an app whose store is out of reach."""
    (project / "away.py").write_text(
        "from aioq import Aarq\n"
        "from aioq.errors import BrokerUnavailable\n"
        "from tasks import Shared\n"
        "class Away(Shared):\n"
        "    async def open(self):\n"
        "        raise BrokerUnavailable('mars://host cannot be reached: no route')\n"
        "app = Aarq(Away())\n"
    )


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Run]]:
    """Run ``aioq`` with these words in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*words: str) -> Run:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            code = main(words)
        out, err = capsys.readouterr()
        return Run(code, out, err)

    yield run
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put somebody at the terminal who types this."""

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    return lambda text: monkeypatch.setattr(sys, "stdin", Keyboard(text))


@pytest.fixture
def environment() -> dict[str, str]:
    """This process's, without settings of aioq but for switched-off plugins."""
    kept = {"AIOQ_DISABLE_PLUGINS"}
    return {
        key: value
        for key, value in os.environ.items()
        if key in kept or not key.startswith(("AIOQ_", "PYTHON"))
    }


@pytest.fixture
def python(project: Path, environment: dict[str, str]) -> Callable[..., Run]:
    """Run Python with these words as a process of its own."""

    def python(*words: str, **more: str) -> Run:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=180,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return python


@pytest.fixture
def shell(python: Callable[..., Run]) -> Callable[..., Run]:
    """Run ``aioq`` with these words as a process of its own."""
    return lambda *words, **more: python("-m", "aioq", *words, **more)
