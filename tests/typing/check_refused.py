"""Runs mypy and pyright on refused*.py and compares what they flag with what is marked.

A line that both must flag ends in ``# E: <mypy-code>`` (several: ``# E: code, code``). mypy must
flag exactly the marked lines, each with exactly these codes; pyright exactly the marked lines.
Exit status 1 when anything differs, with one line for each difference.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Place: TypeAlias = tuple[str, int]  # file name, line from 1
Flags: TypeAlias = dict[Place, set[str]]


def marked(path: Path) -> Flags:
    """The lines of one file that must be flagged, each with mypy's codes."""
    flags: Flags = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if match := re.search(r"# E: ([a-z][a-z, -]*)$", line):
            flags[path.name, number] = set(re.split(r",\s*", match[1]))
        elif "# E:" in line:
            raise SystemExit(f"{path.name}:{number}: the mark is not `# E: <mypy-code>`")
    return flags


def output_of(*command: str) -> str:
    """What a checker prints; it must have run to its end (0: nothing found, 1: errors found)."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{command[0]} broke down:\n{done.stdout}{done.stderr}")
    return done.stdout


def flagged_by_mypy(files: list[str]) -> Flags:
    """Lines with an error, each with its codes."""
    flags: Flags = defaultdict(set)
    report = output_of("mypy", "--no-pretty", "--hide-error-context", *files)
    for name, line, code in re.findall(r"^(.+?):(\d+): error: .*  \[([a-z-]+)\]$", report, re.M):
        flags[Path(name).name, int(line)].add(code)
    return dict(flags)


def flagged_by_pyright(files: list[str]) -> Flags:
    """Lines with an error, each with its rules."""
    # The project's settings leave these files out even when they are named, so pyright gets copies
    # in a project of their own, with the same settings otherwise.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pyright"]
    settings |= {"include": ["."], "exclude": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in files:
            shutil.copy(ROOT / name, folder)
        project = Path(folder) / "pyrightconfig.json"
        project.write_text(json.dumps(settings), "utf-8")
        report = output_of(
            "pyright", "--outputjson", "--project", str(project), "--pythonpath", sys.executable
        )
    flags: Flags = defaultdict(set)
    for entry in json.loads(report)["generalDiagnostics"]:
        if entry["severity"] == "error":
            place = (Path(entry["file"]).name, entry["range"]["start"]["line"] + 1)
            flags[place].add(entry.get("rule", "syntax"))
    return dict(flags)


def differences(expected: Flags, mypy: Flags, pyright: Flags) -> list[str]:
    """One line for each mark that a checker does not agree with, and each flag without a mark."""
    found: list[str] = []
    for place in sorted(expected.keys() | mypy.keys() | pyright.keys()):
        where = f"{place[0]}:{place[1]}"
        codes = expected.get(place, set())
        if mypy.get(place, set()) != codes:
            found.append(
                f"{where}: marked {sorted(codes)}, mypy says {sorted(mypy.get(place, []))}"
            )
        if (place in pyright) != (place in expected):
            rules = sorted(pyright.get(place, []))
            found.append(f"{where}: {'marked' if codes else 'not marked'}, pyright says {rules}")
    return found


def main() -> int:
    """Check every refused*.py beside this file."""
    paths = sorted(HERE.glob("refused*.py"))
    expected: Flags = {}
    for path in paths:
        expected |= marked(path)
    if not expected:
        raise SystemExit("no line of tests/typing/refused*.py is marked")
    files = [str(path.relative_to(ROOT)) for path in paths]
    found = differences(expected, flagged_by_mypy(files), flagged_by_pyright(files))
    print("\n".join(found) or f"mypy and pyright refuse the {len(expected)} marked lines, no other")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
