"""The plugin tutorials of docs/extending.md, as printed; and the files of examples/ are theirs."""

import ast
import io
import shutil
import tokenize
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
    page.do(TEXT, environment, folder)


@pytest.mark.parametrize("name", ["aioq-slowjobs", "aioq-msgpack"])
def test_the_page_prints_the_example(name: str):
    printed = {m["file"]: m["body"] for m in page.BLOCK.finditer(TEXT) if m["file"]}
    files = [path for path in (EXAMPLES / name).rglob("*") if path.suffix in (".py", ".toml")]
    assert files
    for path in files:
        assert printed[path.relative_to(EXAMPLES).as_posix()] == path.read_text("utf-8")


def test_the_broker_has_less_than_300_lines():
    """Of code: without blank lines, comments and docstrings."""
    assert sum(map(lines_of_code, (EXAMPLES / "aioq-filebroker" / "src").rglob("*.py"))) < 300


def lines_of_code(path: Path) -> int:
    text = path.read_text("utf-8")
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({t.start[0] for t in tokens if t.type not in nothing and t.string} - told)
