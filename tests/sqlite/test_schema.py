"""Whose file it is: new, ours, newer, somebody else's, damaged."""

# ruff: noqa: ASYNC240 - a test may block its own loop

import sqlite3
from pathlib import Path

import pytest

from aioq.errors import BrokerError, ConfigurationError
from aioq_sqlite import SQLiteBroker


def execute(path: Path, statement: str) -> None:
    con = sqlite3.connect(path)
    con.execute(statement)
    con.commit()
    con.close()


async def test_a_newer_schema_is_refused(path: Path) -> None:
    async with SQLiteBroker(path):
        pass
    execute(path, "pragma user_version = 99")
    with pytest.raises(ConfigurationError, match=r"newer aioq \(schema 99.*upgrade"):
        await SQLiteBroker(path).open()


async def test_the_database_of_another_program_is_refused(path: Path) -> None:
    execute(path, "create table theirs (a)")
    with pytest.raises(ConfigurationError, match="file of its own"):
        await SQLiteBroker(path).open()


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(ConfigurationError, match="not a SQLite database"):
        await SQLiteBroker(path).open()


async def test_open_and_close_may_be_repeated(path: Path) -> None:
    broker = SQLiteBroker(path)
    await broker.close()
    for _ in range(2):
        await broker.open()
        await broker.open()
        assert await broker.counts() == []
        await broker.close()
        await broker.close()
    with pytest.raises(BrokerError, match="not open"):
        await broker.counts()


async def test_the_last_to_close_leaves_one_file(path: Path) -> None:
    async with SQLiteBroker(path), SQLiteBroker(path):
        pass
    assert not Path(f"{path}-wal").exists()
