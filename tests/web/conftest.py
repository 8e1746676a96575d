"""Web servers and workers as processes of their own, as they run for users."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from servers.ports import HOST, free_port

EXAMPLES = Path(__file__).parents[2] / "examples" / "web"
PATIENCE = 60.0
"""Seconds that whatever is awaited may take on a busy machine."""


class Program:
    """A Python process and what it printed."""

    def __init__(self, log: Path, folder: Path, env: dict[str, str], words: list[str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=folder, env=env, stdout=output, stderr=output
            )

    def stop(self) -> int:
        """Ask it to leave, as a supervisor would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


class Programs:
    """The processes of one test, which share a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Program] = []
        self.clients: list[httpx.Client] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIOQ_")},
            "AIOQ_BROKER_URL": f"sqlite:///{folder / 'jobs.db'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *words: str, at: str = ".") -> Program:
        log = self.folder / f"{len(self.all)}.log"
        program = Program(log, EXAMPLES / at, self.env, list(words))
        self.all.append(program)
        return program

    def run(self, *words: str, at: str = ".") -> None:
        program = self.start(*words, at=at)
        assert program.process.wait(PATIENCE) == 0, program.log.read_text()

    def serve(self, *words: str, at: str = ".") -> httpx.Client:
        """Start a web server, `{port}` in its words; a client of it, once it listens."""
        port = free_port()
        server = self.start(*(word.format(port=port) for word in words), at=at)
        client = httpx.Client(base_url=f"http://{HOST}:{port}", timeout=2 * PATIENCE)
        self.clients.append(client)

        def listens() -> bool:
            assert server.process.poll() is None, server.log.read_text()
            try:
                client.get("/")
            except httpx.ConnectError:
                return False
            return True

        eventually(listens)
        return client


def eventually(holds: Callable[[], bool]) -> None:
    """Ask until it holds: another process does not tell."""
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    found = Programs(tmp_path)
    try:
        yield found
    finally:
        for client in found.clients:
            client.close()
        for program in found.all:
            program.process.kill()
            program.process.wait()
