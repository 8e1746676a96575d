"""Operations share a commit and nothing else: errors, cancellation, threads, the end."""

# ruff: noqa: ASYNC240 - a test may block its own loop

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from servers.hands import eventually

from aioq import Aarq, Context
from aioq.errors import (
    BatchRejected,
    BrokerUnavailable,
    ConfigurationError,
    EnqueueManyError,
    JobExists,
)
from aioq.plugins import Fence, NewJob, Settlement
from aioq.testing import FakeClock
from aioq_sqlite import SQLiteBroker
from aioq_sqlite._rows import make_token, split_token

BAD = [
    {"id": "no uuid"},
    {"task": "\ud800"},
    {"queue": "\ud800"},
    {"priority": 2**80},
    {"at_ms": 2**64},
    {"body": {}},
]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock as another process would."""
    fd = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def exit_code(pid: int) -> int:
    """Wait for a forked child; one that hangs is killed."""
    deadline = time.monotonic() + 30
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


@contextlib.contextmanager
def recorded(store: Any, texts: set[str]) -> Iterator[None]:
    """Note the statements that the writer executes."""
    connection = store.writing

    class Recording:
        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

        def execute(self, sql: str, *values: Any) -> Any:
            texts.add(sql)
            return connection.execute(sql, *values)

    store.writing = Recording()
    yield
    store.writing = connection


@pytest.mark.parametrize("fields", BAD, ids=str)
async def test_a_bad_batch_fails_alone(hand: Any, path: Path, fields: dict[str, Any]) -> None:
    good = [NewJob(str(uuid4()), "q", "t", b"p", b"b") for _ in range(3)]
    bad = [good[0]._replace(id=str(uuid4())), good[1]._replace(**{"id": str(uuid4()), **fields})]
    with locked(path):
        calls = [asyncio.ensure_future(hand.send(batch)) for batch in (good[:1], bad, good[1:])]
        await asyncio.sleep(0.05)
    first, rejected, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(rejected, BatchRejected)
    assert [answer.status for answer in (*first, *second)] == ["new"] * 3
    assert {job.id for job in await hand.take()} == {job.id for job in good}


async def test_a_job_sent_again_after_an_unknown_outcome_does_not_run_twice(
    hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, store = Aarq(hand.broker, plugins=False), hand.broker.enqueue

    @app.task(name="t", queue="q")
    async def task(ctx: Context) -> None: ...

    async def lose_the_answer(jobs: Any, **numbered: Any) -> Any:
        await store(jobs, **numbered)
        raise OSError("cut off")

    job = task.job()
    with monkeypatch.context() as patch:
        patch.setattr(hand.broker, "enqueue", lose_the_answer)
        with pytest.raises(EnqueueManyError, match="cut off"):
            await app.enqueue_many([job])
    (delivery,) = await hand.take()
    await hand.complete([delivery])
    for _ in range(2):
        with pytest.raises(EnqueueManyError) as again:
            await app.enqueue_many([job])
        assert isinstance(again.value.errors[job.id], JobExists)
    assert await hand.take() == []


async def test_what_waits_for_the_lock_can_be_cancelled(hand: Any, path: Path) -> None:
    with locked(path):
        calls = [asyncio.ensure_future(hand.add()) for _ in range(20)]
        await asyncio.sleep(0.05)
        for call in calls[::2]:
            call.cancel()
        await asyncio.wait(calls[::2], timeout=30)
        assert all(call.cancelled() for call in calls[::2]), "nothing is waited for"
    done = await asyncio.gather(*calls[1::2])
    assert {job.id for job in await hand.take()} == {job.id for (job,) in done}


async def test_a_cancelled_claim_gives_back_what_it_got(hand: Any) -> None:
    await hand.add(200)
    for turns in range(40):
        call = asyncio.ensure_future(hand.take(2))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        if not call.cancelled():
            await hand.complete(call.result())
        (stats,) = await hand.broker.counts(["q"])
        assert stats.running == 0, "it was given back before the cancelled task ended"
    assert stats.pending + stats.completed == 200


async def test_the_lease_client_needs_no_loop(hand: Any, path: Path) -> None:
    await hand.add(2)
    jobs = await hand.take()
    client = hand.broker.for_lease_thread()
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.renew([job.token for job in jobs], 30_000))
    )
    thread.start()
    thread.join(30)
    assert [list(part) for part in answers[0]] == [[], []]
    with locked(path), pytest.raises(BrokerUnavailable, match="no answer within"):
        client.renew([jobs[0].token], 300)
    await hand.complete(jobs)
    assert list(client.renew([jobs[0].token], 30_000).lost) == [jobs[0].token]
    client.close()


async def test_close_finishes_what_was_handed_over(path: Path, make_hand: Any) -> None:
    broker = SQLiteBroker(path)
    await broker.open()
    hand = make_hand(broker)
    with locked(path):
        calls = [asyncio.ensure_future(hand.add()) for _ in range(5)]
        await asyncio.sleep(0.02)
        closing = asyncio.ensure_future(broker.close())
        await asyncio.sleep(0.02)
    await closing
    stored = {job.id for (job,) in await asyncio.gather(*calls)}
    async with broker:
        assert {job.id for job in await hand.take()} == stored


async def test_who_waits_learns_of_the_close(path: Path) -> None:
    broker = SQLiteBroker(path)
    await broker.open()
    (job,) = [NewJob(str(uuid4()), "q", "t", b"p", b"b")]
    await broker.enqueue([job], producer=b"p" * 8, numbers={"q": 1})
    waiting = asyncio.ensure_future(broker.wait_finished(job.id))
    await asyncio.sleep(0.03)
    await broker.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await waiting


async def test_a_foreign_writer_makes_calls_fail_not_hang(
    hand: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    con = sqlite3.connect(path, isolation_level=None)
    hand.broker._engine.writer._store.writing.execute("pragma busy_timeout = 50")
    con.execute("begin immediate")
    with pytest.raises(BrokerUnavailable, match="another program has locked"):
        await hand.add()
    con.execute("rollback")
    con.close()
    await hand.add()


async def test_a_full_disk_takes_nothing_and_recovers(hand: Any) -> None:
    writing = hand.broker._engine.writer._store.writing
    (pages,) = writing.execute("pragma page_count").fetchone()
    writing.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(BrokerUnavailable, match="disk is full"):
        await hand.add(400, body=b"x" * 2000)
    writing.execute("pragma max_page_count = 1000000")
    assert await hand.take() == []
    await hand.add(400, body=b"x" * 2000)


async def test_a_busy_loop_does_not_starve_the_writer(hand: Any) -> None:
    async def spin() -> None:
        while True:
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass
            await asyncio.sleep(0)

    spinning = asyncio.ensure_future(spin())
    began = time.monotonic()
    for _ in range(10):
        await hand.add(10)
    spinning.cancel()
    assert time.monotonic() - began < 60


async def test_several_loops_share_a_broker(hand: Any) -> None:
    def other_loop() -> None:
        asyncio.run(hand.add(3))

    await asyncio.gather(*(asyncio.to_thread(other_loop) for _ in range(2)))
    assert len(await hand.take()) == 6


async def test_loops_may_open_and_close_a_broker_at_once(path: Path) -> None:
    broker = SQLiteBroker(path, synchronous="NORMAL")
    together = threading.Barrier(2)
    failed: list[BaseException] = []

    async def use() -> None:
        together.wait(120)
        async with broker:
            await broker.counts()

    def other_loop() -> None:
        for _ in range(20):
            try:
                asyncio.run(use())
            except BaseException as exc:
                failed.append(exc)
                together.abort()
                return

    threads = [threading.Thread(target=other_loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert not failed
    await eventually(lambda: not [t for t in threading.enumerate() if "aioq-sqlite" in t.name])


async def test_who_opens_again_is_not_closed_by_who_failed_before(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    Path(f"{path}.lock").touch()
    broker = SQLiteBroker(path)

    async def fail() -> None:
        with pytest.raises(ConfigurationError, match="not a SQLite database"):
            await broker.open()

    async def open_again() -> None:
        await fail()
        path.unlink()
        await broker.open()

    with locked(path):
        both = asyncio.gather(open_again(), fail())
        await asyncio.sleep(0.01)
    await both
    await broker.set_paused("q", False)
    await broker.close()


async def test_later_batches_use_the_same_statements(path: Path, make_hand: Any) -> None:
    clock = FakeClock()
    async with SQLiteBroker(path, synchronous="NORMAL", clock=clock) as broker:
        hand = make_hand(broker)
        await broker.counts()
        store = broker._engine.writer._store  # type: ignore[union-attr]
        texts: list[set[str]] = []
        for _ in range(3):
            clock.advance(1)
            texts.append(set())
            with recorded(store, texts[-1]):
                await hand.add(8)
                await hand.complete(await hand.take())
        assert texts[1] == texts[2]


async def test_a_dropped_broker_leaves_no_thread(path: Path) -> None:
    broker = SQLiteBroker(path)
    await broker.open()
    thread = broker._engine.writer._thread  # type: ignore[union-attr]
    del broker
    gc.collect()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_forked_child_must_open_again(path: Path) -> None:
    broker = SQLiteBroker(path)
    await broker.open()
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            coroutine = broker.counts()
            try:
                coroutine.send(None)
            except Exception as exc:
                code = 0 if "before a fork" in str(exc) else 2
        os._exit(code)
    assert await asyncio.to_thread(exit_code, pid) == 0
    assert await broker.counts() == []
    await broker.close()


def test_tokens_are_fences() -> None:
    fence = Fence(str(uuid4()), 7, str(uuid4()), 1_800_000_000_000)
    parts = split_token(fence.pack())
    assert parts is not None
    assert make_token(*parts) == fence.pack()
    assert parts[1] == 7
    assert split_token(b"other") is None


async def test_a_settlement_of_rubbish_is_stale(hand: Any) -> None:
    assert await hand.broker.settle([Settlement(b"rubbish", "completed")]) == ["stale"]
