"""Each error says what is wrong, where, and what to do, as far as SQLite tells."""

# ruff: noqa: ASYNC240 - a test may block its own loop

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from aioq.errors import (
    AioqError,
    BatchRejected,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    InvalidOption,
)
from aioq.plugins import NewJob, WorkerInfo
from aioq_sqlite import SQLiteBroker
from aioq_sqlite._errors import translate
from aioq_sqlite._hints import listen

HERE = "/srv/jobs.db"


def raised(code: int, text: str = "said SQLite") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code | 0x100  # the lowest byte says what it is
    return error


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (
            raised(sqlite3.SQLITE_BUSY),
            BrokerUnavailable,
            "another program has locked the database: let it finish, or close it (said SQLite)",
        ),
        (
            raised(sqlite3.SQLITE_FULL),
            BrokerUnavailable,
            "the disk is full; nothing was written (said SQLite)",
        ),
        (
            raised(sqlite3.SQLITE_IOERR),
            BrokerUnavailable,
            "the disk cannot be read or written; look into the system's log (said SQLite)",
        ),
        (
            raised(sqlite3.SQLITE_CANTOPEN),
            BrokerUnavailable,
            "the database file cannot be opened; may this user write there? (said SQLite)",
        ),
        (
            raised(sqlite3.SQLITE_READONLY),
            BrokerError,
            "the database or its directory is read-only; give this user rights (said SQLite)",
        ),
        (
            raised(sqlite3.SQLITE_CORRUPT),
            BrokerError,
            "the database file is damaged; restore it from a backup (said SQLite)",
        ),
        (
            raised(sqlite3.SQLITE_NOTADB),
            BrokerError,
            "the file is not a SQLite database; give aioq a file of its own (said SQLite)",
        ),
        (raised(sqlite3.SQLITE_MISUSE), BrokerError, "SQLite reports an error (said SQLite)"),
        (raised(sqlite3.SQLITE_TOOBIG), BatchRejected, "a value cannot be stored: said SQLite"),
        (
            sqlite3.ProgrammingError("Error binding parameter 1: type 'set' is not supported"),
            BatchRejected,
            "a value cannot be stored: Error binding parameter 1: type 'set' is not supported",
        ),
        (
            sqlite3.ProgrammingError("Cannot operate on a closed database."),
            BrokerError,
            "Cannot operate on a closed database.",
        ),
        (OverflowError("too large"), BatchRejected, "a value cannot be stored: too large"),
        (
            OSError(28, "No space left on device"),
            BrokerUnavailable,
            "the file system reports an error: [Errno 28] No space left on device",
        ),
    ],
)
def test_what_sqlite_raises(error: Exception, kind: type[AioqError], sentence: str) -> None:
    told = translate(error, HERE)
    assert (type(told), str(told)) == (kind, f"{HERE}: {sentence}")
    assert told.__cause__ is error


def test_mistakes_of_the_program_stay_as_they_are() -> None:
    for mistake in (KeyError("x"), BrokerError("said already")):
        assert translate(mistake, HERE) is mistake


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"synchronous": "OFF"}, "synchronous must be 'FULL' or 'NORMAL', got 'OFF'"),
        ({"keep_finished": -1}, "keep_finished must be a number of seconds, 0 or more, got -1"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        SQLiteBroker("jobs.db", **options)
    assert str(refused.value) == sentence


async def test_a_sqlite_that_is_too_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 7, 17))
    with pytest.raises(ConfigurationError, match=r"^SQLite \S+ is too old: aioq needs 3\.\S+ or"):
        await SQLiteBroker(path).open()


async def test_a_lock_file_that_cannot_be_opened(path: Path) -> None:
    Path(f"{path}.lock").mkdir()
    with pytest.raises(ConfigurationError) as refused:
        await SQLiteBroker(path).open()
    assert str(refused.value) == f"{path}.lock cannot be opened for writing: Is a directory"


async def test_an_id_that_is_none(path: Path) -> None:
    async with SQLiteBroker(path) as broker:
        bad = NewJob("42", "q", "t", b"", b"")
        with pytest.raises(BatchRejected, match="'42' is not a UUID in its usual form of 36"):
            await broker.enqueue([bad], producer=b"producer", numbers={"q": 1})


async def test_a_broker_of_the_parent_of_a_fork(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteBroker(path) as broker:
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 1)
            with pytest.raises(BrokerError, match="opened before a fork: open it again in this"):
                await broker.counts()


async def test_a_place_without_write_ahead_logging(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioq_sqlite._store._connect", lambda path: sqlite3.connect(":memory:"))
    with pytest.raises(ConfigurationError, match=r"cannot use write-ahead logging .*a local disk"):
        await SQLiteBroker(path).open()


async def test_a_file_that_may_only_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SQLiteBroker(path):
        pass

    def read_only(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )

    monkeypatch.setattr("aioq_sqlite._store._connect", read_only)
    with pytest.raises(ConfigurationError, match=r"is read-only; give this user rights"):
        await SQLiteBroker(path).open()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_taken_away_is_not_gone_on_with(
    path: Path, make_hand: Any, replaced: bool
) -> None:
    broker, other = SQLiteBroker(path), SQLiteBroker(path)
    await broker.open()
    old, new = make_hand(broker), make_hand(other)
    (job,) = await old.add()
    waiting = asyncio.ensure_future(broker.wait_finished(job.id))
    await broker.get([job.id])
    for file in path.parent.glob("*"):
        if file.is_file():
            file.unlink()
    if replaced:
        await other.open()
        (job,) = await new.add()
    for call in (old.add(), old.take(), broker.counts(), waiting):
        with pytest.raises(BrokerError) as refused:
            await asyncio.wait_for(call, 30)
        assert str(refused.value) == (
            f"{path} was removed or replaced while it was in use: restart this process"
        )
    await broker.close()
    if replaced:
        async with SQLiteBroker(path) as third:
            assert await third.get([job.id]) != [None], "the old one took nothing along"
        await other.close()


class NoBells:
    def hang(self, worker_id: str) -> None:
        raise OSError(28, "No space left on device")


async def test_a_worker_without_a_bell() -> None:
    none: Any = NoBells()
    worker = WorkerInfo("w1", "host", 1, ("q",), 1, "0")
    with pytest.raises(BrokerUnavailable, match=r"no doorbell can be made for worker w1: .*space"):
        await anext(listen(none, none, worker, lambda: 1))
