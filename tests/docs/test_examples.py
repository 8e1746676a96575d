"""The examples run as their pages say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIOQ_")},
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
    }
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory):
    """One run of the quickstart, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("quickstart")
    before = sorted(EXAMPLES.rglob("*"))
    done = run("quickstart/run.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(EXAMPLES.rglob("*")) == before
    return done, folder


def test_the_quickstart_shows_what_it_promises(quickstart):
    output = quickstart[0].stdout
    for line in (
        "client | compute(5) = 25",
        "client | looked up: completed, result 25",
        "client | Lisbon: sunny, on attempt 3",
        "client | a child said: hello Ada",
        "client | ctx['broker'] = SQLiteBroker",
        "client | sum of 1000 squares = 332833500",
        "the client left with exit code 0, the worker with 0",
    ):
        assert line in output.splitlines(), output


def test_the_quickstart_leaves_nothing_behind(quickstart):
    assert list(quickstart[1].iterdir()) == []


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("middleware.py", "{'Succeeded': 2}"),
        ("lifespan.py", "the worker stops: {'home': 2, 'news': 1}"),
    ],
)
def test_an_example_runs(script: str, line: str, tmp_path: Path):
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout.splitlines()


def test_every_example_is_run():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == {"middleware.py", "lifespan.py"}
