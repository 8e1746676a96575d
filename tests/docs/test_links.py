"""Links between pages lead somewhere, and every page is reached."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for glob in ("*.md", "aioq-*/README.md", "docs/*.md", "examples/README.md")
    for path in ROOT.glob(glob)
]


def prose(path: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_has_one_title(path: Path):
    assert len(re.findall(r"^# ", prose(path), re.M)) == 1


def test_every_page_stands_in_a_table_of_the_index():
    """The site takes its table of contents from there."""
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    index = re.findall(
        r"^\| \[[^\]]+\]\(([\w-]+\.md)\) \|", prose(ROOT / "docs" / "index.md"), re.M
    )
    assert sorted(index) == sorted(pages)


def test_every_example_has_its_row():
    rows = re.findall(r"^\| \[([^\]]+)\]\(\1\) \|", prose(ROOT / "examples" / "README.md"), re.M)
    there = {path.name for path in (ROOT / "examples").iterdir() if path.name != "__pycache__"}
    assert {*rows, "README.md"} == there
