"""What another process does with the database: ``process.py <path> <role> ...``."""

import asyncio
import itertools
import os
import sys
import time
from uuid import uuid4

from aioq.plugins import NewJob, Settlement, WorkerInfo
from aioq_sqlite import SQLiteBroker
from aioq_sqlite import _reader as reader


def job(queue: str = "q") -> NewJob:
    return NewJob(str(uuid4()), queue, "t", b"p", b"b" * 300)


async def produce(broker: SQLiteBroker, count: str, size: str = "1") -> None:
    """Store so many batches (0: without end); print each id once the store has answered."""
    producer = os.urandom(8)
    for number in itertools.count(1) if count == "0" else range(1, int(count) + 1):
        jobs = [job() for _ in range(int(size))]
        await broker.enqueue(jobs, producer=producer, numbers={"q": number})
        print(*(item.id for item in jobs), sep="\n", flush=True)


async def consume(broker: SQLiteBroker, total: str) -> None:
    """Complete jobs, printing their ids, until so many records of all processes exist."""
    worker = str(uuid4())
    while True:
        claimed = await broker.claim(["q"], 20, worker=worker, lease_ms=30_000)
        answers = await broker.settle(
            [Settlement(item.token, "completed") for item in claimed.jobs]
        )
        assert set(answers) <= {"accepted"}
        print(*(item.id for item in claimed.jobs), sep="\n", end="\n" if claimed.jobs else "")
        (stats,) = await broker.counts(["q"])
        if stats.completed >= int(total):
            return
        if not claimed.jobs:
            await asyncio.sleep(0.01)


async def reopen(broker: SQLiteBroker, times: str) -> None:
    """Open and close again and again, with a job stored each time; print the ids."""
    for _ in range(int(times)):
        await broker.close()
        await broker.open()
        item = job()
        await broker.enqueue([item], producer=os.urandom(8), numbers={"q": 1})
        print(item.id)


async def listen(broker: SQLiteBroker, count: str) -> None:
    """An idle worker that no poll helps: print when (monotonic ns) it found each of its jobs."""
    reader.NUDGE_EVERY = 600.0
    info = WorkerInfo(str(uuid4()), "h", os.getpid(), ("q",), 1, "0")
    await broker.claim(["q"], 1, worker=info.id, lease_ms=30_000)
    left = int(count)
    hints = broker.hints(info, lambda: 1)
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0.1)
    print("ready", flush=True)
    while left:
        await waiting
        while (await broker.claim(["q"], 1, worker=info.id, lease_ms=30_000)).jobs:
            left -= 1
            print(time.monotonic_ns(), flush=True)
        if left:
            waiting = asyncio.ensure_future(anext(hints))
    await hints.aclose()


async def idle(broker: SQLiteBroker, seconds: str) -> None:
    """An idle worker with its upkeep; print the CPU seconds that it used."""
    info = WorkerInfo(str(uuid4()), "h", os.getpid(), ("q",), 1, "0")

    async def hear() -> None:
        async for _ in broker.hints(info, lambda: 1):
            await broker.claim(["q"], 1, worker=info.id, lease_ms=30_000)

    hearing = asyncio.ensure_future(hear())
    await asyncio.sleep(0.2)
    before = time.process_time()
    for _ in range(int(seconds) // 2):
        await asyncio.sleep(2)
        await broker.upkeep(["q"], lease_ms=30_000)
    print(time.process_time() - before)
    hearing.cancel()
    await asyncio.wait([hearing])


async def forget(broker: SQLiteBroker) -> None:
    """Leave without closing."""
    producing = asyncio.ensure_future(produce(broker, "1"))
    waiting = asyncio.ensure_future(broker.wait_finished(str(uuid4())))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await producing


async def main(path: str, role: str, *arguments: str) -> None:
    broker = SQLiteBroker(path, synchronous="NORMAL")
    await broker.open()
    await globals()[role](broker, *arguments)
    if role != "forget":
        await broker.close()


asyncio.run(main(*sys.argv[1:]))
