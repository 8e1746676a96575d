"""Runs the quickstart: a worker in one process, a client in another, SQLite between them.

The database is in a temporary directory and goes with it; nothing else is left behind.
"""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

HERE = Path(__file__).parent
WORKER = ["-m", "aioq", "worker", "tasks:app"]
PATIENCE = 60.0
"""Seconds after which a run that does not end is ended."""


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="aioq-") as folder:
        database = Path(folder) / "quickstart.db"
        environment = {
            **os.environ,
            "AIOQ_BROKER_URL": f"sqlite:///{database.as_posix()}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        worker = await Program.start("worker", [*WORKER, "--log-format", "console"], environment)
        try:
            client = await Program.start("client", ["enqueue.py"], environment)
            try:
                await first_to_end(client, worker)
            finally:
                code = await client.stop()
        finally:
            worker_code = await worker.stop()
    print(f"\nthe client left with exit code {code}, the worker with {worker_code}")
    return code or worker_code


class Program:
    """A Python process whose lines are printed behind its name."""

    def __init__(self, name: str, process: Process) -> None:
        self.process = process
        self.ended = asyncio.create_task(process.wait())
        self.printing = asyncio.create_task(self.print_lines(name))

    @classmethod
    async def start(cls, name: str, arguments: list[str], environment: dict[str, str]) -> "Program":
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=HERE, env=environment, stdout=PIPE, stderr=STDOUT
        )
        return cls(name, process)

    async def print_lines(self, name: str) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            print(f"{name} | {line.decode(errors='replace').rstrip()}", flush=True)

    async def stop(self) -> int:
        """Ask it to leave if it is still there, as a supervisor would; its exit code."""
        if not self.ended.done():
            self.process.terminate()
        await self.printing
        return await self.ended


async def first_to_end(*programs: Program) -> None:
    """Wait until one of them has ended: the client, when all is well."""
    ends = [program.ended for program in programs]
    await asyncio.wait(ends, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
