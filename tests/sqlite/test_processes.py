"""Several processes on one file: nothing lost, nothing doubled, nothing damaged."""

# ruff: noqa: ASYNC240 - a test may block its own loop

import asyncio
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from aioq_sqlite import SQLiteBroker


def check_file(path: Path) -> None:
    con = sqlite3.connect(path)
    assert con.execute("pragma integrity_check").fetchall() == [("ok",)]
    tallied = dict(con.execute("select status, sum(number) from tally group by status").fetchall())
    counted = dict(con.execute("select status, count(*) from job_done group by status").fetchall())
    con.close()
    assert {key: value for key, value in tallied.items() if value} == counted


async def test_kill_loses_no_answered_job(path: Path, start: Any) -> None:
    answered: list[str] = []
    for _ in range(6):
        process = start("produce", 0, 3)
        # By what it has said, not by the clock: a slow machine must get as far.
        lines = [process.stdout.readline() for _ in range(random.randint(30, 150))]
        process.kill()
        out, _ = process.communicate()
        lines += out.splitlines(keepends=True)
        answered += [line.strip() for line in lines if len(line) == 37]
    assert len(answered) >= 180
    check_file(path)
    async with SQLiteBroker(path) as broker:
        for first in range(0, len(answered), 500):
            assert None not in await broker.get(answered[first : first + 500]), "a job is lost"


async def test_processes_share_the_work(path: Path, start: Any, read_all: Any) -> None:
    producers = [start("produce", 50, 10) for _ in range(2)]
    consumers = [start("consume", 1000) for _ in range(2)]
    stored = [line for process in producers for line in await read_all(process)]
    done = [line for process in consumers for line in await read_all(process)]
    assert len(stored) == 1000
    assert Counter(done) == Counter(stored), "each job is done exactly once"
    check_file(path)


async def test_case_97_open_and_close_beside_writers(path: Path, start: Any, read_all: Any) -> None:
    processes = [start("reopen", 40), start("reopen", 40), start("produce", 150, 2)]
    stored = [line for process in processes for line in await read_all(process)]
    assert len(stored) == 380
    check_file(path)
    async with SQLiteBroker(path) as broker:
        assert None not in await broker.get(stored)


async def test_leaving_without_close_is_quiet(path: Path, start: Any, read_all: Any) -> None:
    (job_id,) = await asyncio.wait_for(read_all(start("forget")), 60)
    async with SQLiteBroker(path) as broker:
        assert await broker.get([job_id]) != [None]


async def test_the_log_is_emptied(hand: Any, path: Path) -> None:
    for _ in range(60):
        await hand.add(100, body=b"x" * 4000)
    log = Path(f"{path}-wal")
    assert log.stat().st_size < 10 * 1024 * 1024
    async with asyncio.timeout(60):  # an idle process empties the log
        while log.stat().st_size >= 512 * 1024:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
