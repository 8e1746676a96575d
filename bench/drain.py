"""Fill a broker with no-op jobs and let one worker drain it."""

import gc
import logging
import time
from dataclasses import dataclass
from uuid import uuid4

import structlog

from aioq import Aarq, Context, Worker, WorkerOptions
from aioq.backends import BaseBroker
from aioq.cli import _interpreter

ENQUEUE = 1_000


@dataclass(frozen=True)
class Drained:
    """What one run took, per job."""

    jobs: int
    enqueue_us: float
    drain_us: float
    cpu_us: float

    @property
    def per_second(self) -> float:
        return 1e6 / self.drain_us


def quiet() -> None:
    """As in a production worker: no log line per successful job, the command's interpreter."""
    _interpreter.tune()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


async def drain(broker: BaseBroker, jobs: int, concurrency: int = 100) -> Drained:
    """Enqueue ``jobs`` no-op jobs, then time a burst worker until the last is settled."""
    app = Aarq(broker, plugins=False)
    ran = 0

    @app.task(name=f"noop-{uuid4()}")
    async def noop(ctx: Context) -> None:
        nonlocal ran
        ran += 1

    started = time.perf_counter()
    for start in range(0, jobs, ENQUEUE):
        await app.enqueue_many([noop.job() for _ in range(min(ENQUEUE, jobs - start))])
    enqueued = time.perf_counter() - started
    gc.collect()
    started, cpu = time.perf_counter(), time.process_time()
    await Worker(app, WorkerOptions(burst=True, concurrency=concurrency)).run()
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    if ran != jobs:
        raise RuntimeError(f"{ran} of {jobs} jobs ran")
    return Drained(jobs, enqueued / jobs * 1e6, wall / jobs * 1e6, cpu / jobs * 1e6)
