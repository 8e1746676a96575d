"""The app that web processes and workers share: `aioq worker jobs:app` runs its tasks."""

import asyncio

from aioq import Aarq, Context

# The store is the one that AIOQ_BROKER_URL names.
app = Aarq()


@app.task(save_result=True, result_ttl=3600, timeout=300)
async def report(ctx: Context, title: str, seconds: float = 0.0) -> str:
    """Takes a while, as reports do."""
    await asyncio.sleep(seconds)
    return f"{title}: all is well"
