"""Wake-ups: who is rung, how fast, and what is left of the dead."""

# ruff: noqa: ASYNC110, ASYNC240 - a test may poll, and block its own loop

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from servers.hands import eventually

from aioq.errors import BrokerUnavailable
from aioq.plugins import Hint, WorkerInfo
from aioq_sqlite import SQLiteBroker
from aioq_sqlite import _bells as bells
from aioq_sqlite import _reader as reader

PATIENCE = 30.0


@pytest.fixture(params=["unix", "udp"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "udp":
        monkeypatch.setattr(bells, "LONGEST_PATH", 0)
    elif not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    return str(request.param)


@pytest.fixture(autouse=True)
def only_bells(monkeypatch: pytest.MonkeyPatch) -> None:
    """No poll helps out."""
    monkeypatch.setattr(reader, "NUDGE_EVERY", 600.0)


def info(*queues: str) -> WorkerInfo:
    return WorkerInfo(str(uuid4()), "h", os.getpid(), queues or ("q",), 1, "0")


class Ear:
    """A worker that listens."""

    def __init__(self, broker: SQLiteBroker, worker: WorkerInfo) -> None:
        self.free = 1
        self.heard: asyncio.Queue[Hint] = asyncio.Queue()
        self._hints: AsyncIterator[Hint] = broker.hints(worker, lambda: self.free)
        self._task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for hint in self._hints:
            self.heard.put_nowait(hint)

    async def next(self) -> Hint:
        return await asyncio.wait_for(self.heard.get(), PATIENCE)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def listen(broker: SQLiteBroker, worker: WorkerInfo | None = None) -> Ear:
    ear = Ear(broker, worker or info())
    await asyncio.sleep(0.02)
    return ear


async def test_a_job_rings_one_idle_worker(hand: Any, transport: str) -> None:
    ears = [await listen(hand.broker) for _ in range(3)]
    other = await listen(hand.broker, info("other"))
    await hand.add()
    await eventually(lambda: any(ear.heard.qsize() for ear in ears))
    await asyncio.sleep(0.05)
    assert sorted(ear.heard.qsize() for ear in ears) == [0, 0, 1]
    assert other.heard.empty(), "it does not serve this queue"
    await hand.add(queue="other")
    assert await other.next() == Hint("other")
    for ear in (*ears, other):
        await ear.close()


async def test_a_full_worker_passes_it_on(hand: Any, transport: str) -> None:
    first, second = await listen(hand.broker), await listen(hand.broker)
    first.free = second.free = 0
    await hand.add()
    await asyncio.sleep(0.05)
    assert first.heard.empty()
    assert second.heard.empty()
    third = await listen(hand.broker)
    await hand.add()
    assert await third.next() == Hint("q")
    for ear in (first, second, third):
        await ear.close()


async def test_a_claim_that_leaves_work_rings_the_next(hand: Any, transport: str) -> None:
    here, there = info(), info()
    ears = [await listen(hand.broker, here), await listen(hand.broker, there)]
    await hand.add(2)
    await eventually(lambda: any(ear.heard.qsize() for ear in ears))
    rung = next(ear for ear in ears if not ear.heard.empty())
    worker = here if rung is ears[0] else there
    claimed = await hand.broker.claim(["q"], 1, worker=worker.id, lease_ms=30_000)
    assert claimed.more
    other = ears[1] if rung is ears[0] else ears[0]
    assert await other.next() == Hint("q")
    for ear in ears:
        await ear.close()


async def test_a_cancel_reaches_a_full_worker(hand: Any, transport: str) -> None:
    worker = info()
    ear = await listen(hand.broker, worker)
    ear.free = 0
    (job,) = await hand.add()
    hand.worker = worker.id
    (delivery,) = await hand.take()
    assert await hand.broker.cancel([job.id]) == ["asked"]
    assert await ear.next() == Hint(cancel=delivery.token)
    await ear.close()


async def test_an_earlier_due_time_rings(hand: Any, transport: str) -> None:
    await hand.add(delay_ms=60_000)
    ear = await listen(hand.broker)
    await hand.add(delay_ms=30_000)
    assert await ear.next() == Hint("q")
    await ear.close()


async def test_a_lost_bell_costs_a_poll(
    hand: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "NUDGE_EVERY", 1.0)
    ear = await listen(hand.broker)
    for mark in Path(f"{path}.bells").glob("*.idle"):
        mark.unlink()
    await hand.add()
    assert (await ear.next()).cancel is None
    await ear.close()


async def test_all_cancels_of_a_call_are_heard(hand: Any, transport: str) -> None:
    worker = info()
    ear = await listen(hand.broker, worker)
    ear.free = 0
    jobs = await hand.add(200)
    hand.worker = worker.id
    tokens = {delivery.token for delivery in await hand.take(200)}
    assert await hand.broker.cancel([job.id for job in jobs]) == ["asked"] * 200
    assert {(await ear.next()).cancel for _ in jobs} == tokens
    await ear.close()


async def test_a_ringer_without_descriptors_takes_no_bell_down(
    hand: Any, path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = await listen(hand.broker)
    tried: list[object] = []

    def none_left(*kind: object) -> None:
        tried.append(kind)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as starved:
        starved.setattr(bells, "socket", SimpleNamespace(**vars(socket) | {"socket": none_left}))
        await hand.add()
        await eventually(lambda: bool(tried))
        with pytest.raises(BrokerUnavailable, match="no doorbell can be made"):
            await anext(hand.broker.hints(info(), lambda: 1))
    await eventually(lambda: bool(list(Path(f"{path}.bells").glob("*.idle"))))
    await hand.add()
    assert await ear.next() == Hint("q")
    await ear.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
async def test_close_ends_the_hints_of_a_full_bell(path: Path) -> None:
    async with SQLiteBroker(path) as broker:
        ear = await listen(broker)
        (bell,) = Path(f"{path}.bells").glob("*.bell")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ringer:
            ringer.setblocking(False)
            with contextlib.suppress(OSError):
                while True:
                    ringer.sendto(b"p", str(bell))
    await asyncio.wait_for(ear._task, PATIENCE)


async def test_a_bell_is_heard_in_its_own_process_without_its_entry(
    hand: Any, path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "NUDGE_EVERY", 0.05)
    ear = await listen(hand.broker)
    for entry in Path(f"{path}.bells").iterdir():
        entry.unlink()
    await hand.add()
    assert (await ear.next()).cancel is None
    await ear.close()


async def test_close_ends_the_hints(path: Path) -> None:
    async with SQLiteBroker(path) as broker:
        ear = await listen(broker)
    await asyncio.wait_for(ear._task, PATIENCE)
    assert list(Path(f"{path}.bells").iterdir()) == []


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
async def test_what_the_dead_left_is_removed(hand: Any, path: Path, start: Any) -> None:
    process = start("listen", 1)
    assert (await asyncio.to_thread(process.stdout.readline)) == "ready\n"
    process.kill()
    process.wait()
    folder = Path(f"{path}.bells")
    assert len(list(folder.iterdir())) == 2
    await hand.add()
    async with asyncio.timeout(PATIENCE):
        # Whoever rings in vain cleans up; bells are rung after the answer.
        while list(folder.iterdir()):
            await asyncio.sleep(0.005)


async def test_a_new_worker_sweeps_dead_ports(path: Path) -> None:
    folder = Path(f"{path}.bells")
    folder.mkdir()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / f"abc.{port}.udp").touch()
    (folder / "abc.busy").write_bytes(b"q")
    async with SQLiteBroker(path) as broker:
        ear = await listen(broker)
        assert not list(folder.glob("abc.*"))
        await ear.close()


async def test_another_process_is_woken_by_its_bell(hand: Any, start: Any) -> None:
    process = start("listen", 10)
    assert (await asyncio.to_thread(process.stdout.readline)) == "ready\n"
    delays: list[float] = []
    for _ in range(10):
        await asyncio.sleep(0.03)
        await hand.add()
        enqueued = time.monotonic_ns()
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.to_thread(process.stdout.readline)
        delays.append((int(line) - enqueued) / 1e6)
    print("ms from answer to claim:", [round(delay, 1) for delay in delays])
    await asyncio.to_thread(process.wait, 30)


async def test_an_idle_worker_uses_little(start: Any, read_all: Any) -> None:
    (used,) = await read_all(start("idle", 4))
    print("CPU of an idle worker:", float(used) / 4)
    assert float(used) / 4 < 0.02


async def test_the_end_of_a_job_is_seen_at_once(hand: Any, path: Path) -> None:
    async with SQLiteBroker(path) as other:
        delays: list[float] = []
        for _ in range(10):
            (job,) = await hand.add()
            deliveries = await hand.take()
            waiting = [asyncio.ensure_future(other.wait_finished(job.id)) for _ in range(50)]
            await asyncio.sleep(0.02)
            began = time.monotonic()
            await hand.complete(deliveries)
            infos = await asyncio.gather(*waiting)
            delays.append(time.monotonic() - began)
            assert {info.status for info in infos if info} == {"completed"}
        print("ms to the end of wait_finished:", [round(delay * 1000, 1) for delay in delays])
        assert min(delays) < 1  # one of them comes through also on a busy machine
        assert await other.wait_finished(str(uuid4())) is None
        assert await other.wait_finished("rubbish") is None
