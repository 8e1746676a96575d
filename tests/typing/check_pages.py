"""Runs mypy on the Python of the pages, those parts included that nobody runs.

What a page marks as a file is a module; its other blocks are one after the other the body of one
function, so that they share names and may await. What a page leaves unsaid, a comment says::

    <!-- given
    from shop import order
    -->

(`given tasks.py` is a module.)

A block behind `<!-- another library -->` is not checked. One behind `<!-- refused: arg-type -->`
shows a mistake that mypy must find. Exit status 1 when mypy finds another, or not that one.
"""

import re
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("aioq-*/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
PART = re.compile(
    r"^<!-- given(?: (?P<module>\w+)\.py)?\n(?P<given>.*?)^-->$"
    r"|^(?:<!-- refused: (?P<refused>[a-z-]+) -->\n)?"
    r"(?:<!-- (?P<mark>[^\n]*) -->\n)?```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)
FILE = re.compile(r"(?:file|module|tested as) (?:[\w-]+/)?(\w+)\.py")
SETTINGS = """
[mypy]
check_untyped_defs = True
allow_redefinition = True
disable_error_code = no-redef
# one is invented in the pages, the other has no types
[mypy-aioq_kafka.*,django.*]
ignore_missing_imports = True
"""


@dataclass
class Line:
    """A line of Python, and where in a page it stands."""

    text: str
    place: str = ""
    refused: tuple[str, str] | None = None
    """Its block, and the code of the mistake that is in it."""


def lines_of(code: str, page: str, at: int, refused: str | None = None) -> list[Line]:
    """The lines of a block that begins at this line of a page."""
    mistake = (f"{page}:{at}", refused) if refused else None
    return [
        Line(text, f"{page}:{number}", mistake)
        for number, text in enumerate(code.splitlines(), start=at)
    ]


def modules_of(path: Path) -> dict[str, list[Line]]:
    """The modules of one page: its files, and `page`."""
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    files: dict[str, list[Line]] = {}
    before: list[Line] = []
    body: list[Line] = []
    for part in PART.finditer(text):
        kind = "code" if part["given"] is None else "given"
        at = text[: part.start(kind)].count("\n") + 1
        mark = part["mark"] or ""
        if part["module"]:
            files.setdefault(part["module"], []).extend(lines_of(part["given"], name, at))
        elif kind == "given":
            before += lines_of(part["given"], name, at)
        elif found := FILE.fullmatch(mark):
            files.setdefault(found[1], []).extend(lines_of(part["code"], name, at))
        elif mark != "another library":
            body += lines_of(textwrap.indent(part["code"], "    "), name, at, part["refused"])
    stars = [Line(f"from {file} import *") for file in files]
    page = [*stars, *before, Line("async def page() -> None:"), Line("    pass"), *body]
    return {**files, "page": page}


def write(folder: Path) -> dict[str, list[Line]]:
    """Write all modules, each under a name of its own; file name -> its lines."""
    found: dict[str, list[Line]] = {}
    for path in PAGES:
        modules = modules_of(path)
        prefix = re.sub(r"\W", "_", path.relative_to(ROOT).with_suffix("").as_posix())
        imports = re.compile(rf"^( *(?:from|import) )({'|'.join(modules)})\b", re.M)
        for name, lines in modules.items():
            code = "\n".join(line.text for line in lines)
            file = f"{prefix}__{name}.py"
            (folder / file).write_text(imports.sub(rf"\1{prefix}__\2", code) + "\n", "utf-8")
            found[file] = lines
    return found


def report_of_mypy(folder: Path) -> str:
    """What mypy says to the modules of this folder."""
    (folder / "mypy.ini").write_text(SETTINGS, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "--hide-error-context", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1}:
        raise SystemExit(f"mypy broke down:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Check every page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        modules = write(folder)
        report = report_of_mypy(folder)
    lines = [line for module in modules.values() for line in module]
    missing = {line.refused for line in lines if line.refused}
    found: list[str] = []
    for file, number, message, code in re.findall(
        r"^(\w+\.py):(\d+): error: (.*)  \[([a-z-]+)\]$", report, re.M
    ):
        line = modules[file][int(number) - 1]
        if line.refused and line.refused[1] == code:
            missing.discard(line.refused)
        else:
            found.append(f"{line.place}: {message}")
    found += [f"{place}: mypy finds no mistake [{code}] in it" for place, code in missing]
    print("\n".join(found) or f"mypy accepts {len(lines)} lines of {len(PAGES)} pages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
