"""An app that knows nothing of tracing; and, as a program, its client."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from aioq import Aarq, Context

app = Aarq()
Ctx = Context[Any]


@app.task(name="flaky", retries=1, retry_delay=0.1)
async def flaky(ctx: Ctx) -> None:
    if ctx.attempt == 1:
        raise ValueError("boom")
    await nested.enqueue()


@app.task(name="nested")
async def nested(ctx: Ctx) -> None: ...


@app.task(name="asks_redis")
async def asks_redis(ctx: Ctx) -> None:
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(os.environ["AIOQ_BROKER_URL"]) as client:
        await client.ping()


@app.task(name="waits")
async def waits(ctx: Ctx, begun: str, until: str) -> None:
    Path(begun).touch()  # noqa: ASYNC240
    while not Path(until).exists():  # noqa: ASYNC110, ASYNC240 - no event comes from there
        await asyncio.sleep(0.01)


async def main() -> None:
    async with app:
        await app.get_task(sys.argv[1]).enqueue(*sys.argv[2:])


if __name__ == "__main__":
    asyncio.run(main())
