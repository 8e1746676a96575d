"""A middleware in one file: warns of attempts that took long, and counts how they ended.

`python examples/middleware.py` runs it on a broker in memory. As a plugin it needs no more than
the last function and an entry point (docs/plugins.md).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

import structlog

from aioq import Aarq, Context, Middleware, Worker, WorkerOptions
from aioq.middleware import Next, Order, Outcome, Returned, RunningJob
from aioq.plugins import hookimpl

log = structlog.get_logger()


class SlowJobs(Middleware):
    """Logs attempts that run longer than `limit` seconds."""

    order = Order.LOG

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit
        self.outcomes: Counter[str] = Counter()

    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        started = time.monotonic()
        try:
            return await call_next(job)
        finally:
            if (took := time.monotonic() - started) > self.limit:
                log.warning("job.slow", task=job.task_name, seconds=round(took, 2))

    async def settled(self, job: RunningJob, outcome: Outcome) -> None:
        self.outcomes[type(outcome).__name__] += 1


@hookimpl
def aioq_middlewares(app: Aarq) -> Iterable[Middleware]:
    return [SlowJobs()]


async def main() -> None:
    app = Aarq("memory://")
    slow = app.use(SlowJobs(limit=0.01))

    @app.task
    async def dawdle(ctx: Context, seconds: float) -> None:
        await asyncio.sleep(seconds)

    await app.enqueue_many([dawdle.job(0.0), dawdle.job(0.05)])
    await Worker(app, WorkerOptions(burst=True)).run()
    print(dict(slow.outcomes))


if __name__ == "__main__":
    asyncio.run(main())
