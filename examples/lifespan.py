"""State of the worker: made once when it starts, shared by all jobs, closed after the last one.

`python examples/lifespan.py` runs it on a broker in memory.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aioq import Aarq, Context, Worker, WorkerOptions


@dataclass
class State:
    """Here a dictionary; else a connection pool, an HTTP client, a loaded model."""

    visits: dict[str, int] = field(default_factory=dict[str, int])


@asynccontextmanager
async def lifespan(app: Aarq) -> AsyncIterator[State]:
    state = State()
    yield state
    print(f"the worker stops: {state.visits}")


app = Aarq("memory://", lifespan=lifespan)


@app.task
async def visit(ctx: Context[State], page: str) -> None:
    visits = ctx.state.visits
    visits[page] = visits.get(page, 0) + 1


async def main() -> None:
    await app.enqueue_many(visit.job(page) for page in ("home", "news", "home"))
    await Worker(app, WorkerOptions(burst=True)).run()


if __name__ == "__main__":
    asyncio.run(main())
