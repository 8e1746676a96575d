"""A page of the docs, done as printed: files are written, commands run, outputs compared.

```` <!-- tested as NAME --> ```` before a block writes it to that file. The lines of an `sh` block
are commands; in a `console` block those after `$`, and what follows is what they print, where
three dots stand for anything. `aioq worker` without `--burst` stays, and is stopped at the end.
"""

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from install.environment import Environment

__all__ = ["do", "section"]

BLOCK = re.compile(
    r"^(?:<!-- tested as (?P<file>\S+) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S
)


@dataclass
class Command:
    line: str
    printed: str | None
    """What it is said to print; None where nothing is said."""


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    (found,) = re.finditer(rf"^(#+) {re.escape(heading)}$", text, re.M)
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def do(text: str, environment: Environment, folder: Path) -> None:
    """All that the text says to do, in this environment and folder."""
    workers: list[subprocess.Popen[str]] = []
    try:
        for match in BLOCK.finditer(text):
            if match["file"]:
                path = folder / match["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(match["body"], "utf-8")
            elif match["language"] in ("sh", "console"):
                for command in commands(match["language"], match["body"]):
                    if re.match(r"aioq worker (?!.*--burst)", command.line):
                        workers.append(started(command.line, environment, folder))
                    else:
                        check(command, environment, folder)
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        ended = [(worker.wait(60), worker.communicate()[0]) for worker in workers]
    for code, output in ended:
        assert code == 0, output


def commands(language: str, body: str) -> Iterator[Command]:
    if language == "sh":
        for line in body.splitlines():
            yield Command(line.partition("  #")[0], None)
        return
    for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
        line, _, printed = part.partition("\n")
        yield Command(line.partition("  #")[0], printed)


def started(line: str, environment: Environment, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=folder,
        env=environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check(command: Command, environment: Environment, folder: Path) -> None:
    done = environment.run(command.line, folder)
    if command.printed is None:
        assert done.returncode == 0, f"$ {command.line}\n{done.stdout}"
        return
    written = "".join(
        f"{line.rstrip()}\n"
        for line in done.stdout.strip().splitlines()
        # the worker of the line above may still be starting; a reader's has started
        if not line.startswith("no worker serves queue ")
    )
    assert re.fullmatch(pattern_of(command.printed), written), (
        f"$ {command.line}\n{written}-- but the page says --\n{command.printed}"
    )


def pattern_of(printed: str) -> str:
    """A line of three dots stands for any lines, three dots in a line for any text of it."""
    pattern = ""
    for line in printed.strip().splitlines():
        anything = re.escape(line).replace(re.escape("..."), "[^\\n]*")
        pattern += r"(?:[^\n]*\n)*" if line == "..." else f"{anything}\n"
    return pattern
