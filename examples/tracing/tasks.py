"""A job that fails once, and then enqueues another."""

import asyncio

import telemetry
from opentelemetry import trace

from aioq import Aarq, Context

telemetry.set_up()
tracer = trace.get_tracer("example")
app = Aarq()  # AIOQ_BROKER_URL says where


@app.task(name="welcome", queue="mail", retries=3, retry_delay=0.3)
async def welcome(ctx: Context, name: str) -> None:
    with tracer.start_as_current_span("smtp"):
        await asyncio.sleep(0.05)
        if ctx.attempt == 1:
            raise ConnectionError("the mail server is away")
    await count.enqueue(name)


@app.task(name="count", queue="statistics")
async def count(ctx: Context, name: str) -> None:
    with tracer.start_as_current_span("update statistics"):
        await asyncio.sleep(0.03)
