"""The plugin tutorials of docs/extending.md, as printed; and the files of examples/ are theirs."""

import shutil
from pathlib import Path

import pytest
from install import page
from install.environment import Environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TEXT = (ROOT / "docs" / "extending.md").read_text("utf-8")


def test_the_tutorials(environment: Environment, tmp_path: Path):
    folder = tmp_path / "tutorial"
    folder.mkdir()
    broker = "aioq-filebroker"
    shutil.copytree(EXAMPLES / broker, folder / broker)  # "Copy the folder"
    # Every race as often as the kit runs it; of the random sequences, which take most, a quarter.
    environment.added["AIOQ_CONFORMANCE_EXAMPLES"] = "15"
    page.do(TEXT, environment, folder)


@pytest.mark.parametrize("name", ["aioq-slowjobs", "aioq-msgpack"])
def test_the_page_prints_the_example(name: str):
    printed = {m["file"]: m["body"] for m in page.BLOCK.finditer(TEXT) if m["file"]}
    files = [path for path in (EXAMPLES / name).rglob("*") if path.suffix in (".py", ".toml")]
    assert files
    for path in files:
        assert printed[path.relative_to(EXAMPLES).as_posix()] == path.read_text("utf-8")


def test_the_broker_has_less_than_300_lines():
    files = [*(EXAMPLES / "aioq-filebroker" / "src").rglob("*.py")]
    assert files
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) < 300
