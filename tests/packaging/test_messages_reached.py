"""Each message that a package raises stands in a test, at least a run of its words."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = 14
"""So many letters in a row make a message recognisable."""


def pieces(tree: ast.AST) -> Iterator[str]:
    """The text of all strings in it; of an f-string what stands between its values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def messages(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line of each `raise`, and the pieces of its message that are long enough."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            said = [text for value in node.exc.args for text in pieces(value)]
            if long := [text for text in said if len(text) >= RUN]:
                yield node.lineno, long


@pytest.fixture(scope="module")
def tested(root: Path) -> str:
    """All text of the tests; what a pattern escapes counts as it is meant."""
    files = root.glob("tests/**/*.py")
    return "\n".join(
        text.replace("\\", "")
        for path in files
        for text in pieces(ast.parse(path.read_text("utf-8")))
    )


def test_each_message_stands_in_a_test(root: Path, packages, tested: str) -> None:
    untold = [
        f"{path.relative_to(root)}:{line}: {' ... '.join(said)}"
        for package in packages
        for path in sorted((root / package.name / "src").rglob("*.py"))
        if "conformance" not in path.parts
        for line, said in messages(path)
        if not any(
            text[at : at + RUN] in tested for text in said for at in range(len(text) - RUN + 1)
        )
    ]
    assert not untold, "\n".join(untold)
