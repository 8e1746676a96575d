"""The app that the worker processes of these tests serve.

Every task writes to a journal outside the store when it starts and when it ends: the oracle that
tells what really ran.
"""

import asyncio
import os
import signal
import time

from aioq import Aarq, Context

app = Aarq()


def journal(event: str, ctx: Context) -> None:
    """One line, appended in one write."""
    line = f"{event} {ctx.job_id} {os.getpid()} {time.monotonic():.6f} {ctx.attempt}\n"
    file = os.open(os.environ["AIOQ_TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@app.task
async def work(ctx: Context, seconds: float = 0.0) -> None:
    journal("start", ctx)
    await asyncio.sleep(seconds)
    journal("end", ctx)


@app.task
async def work_until(ctx: Context, file: str) -> None:
    """Runs until the test has made the file."""
    journal("start", ctx)
    while not os.path.exists(file):  # noqa: ASYNC110, ASYNC240, PTH110 - another process makes it
        await asyncio.sleep(0.05)
    journal("end", ctx)


@app.task(save_result=True)
async def square(ctx: Context, n: int) -> int:
    journal("start", ctx)
    return n * n


@app.task
async def block(ctx: Context, seconds: float) -> None:
    """Holds the event loop, as a careless task does."""
    journal("start", ctx)
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point
    journal("end", ctx)


@app.task
def hold(ctx: Context, seconds: float) -> None:
    """A plain function that nobody can stop."""
    journal("start", ctx)
    time.sleep(seconds)
    journal("end", ctx)


@app.task
async def poison(ctx: Context) -> None:
    journal("start", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(retries=1, retry_delay=60.0)
async def fails_once(ctx: Context) -> None:
    journal("start", ctx)
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")
    journal("end", ctx)


@app.task
async def unserialisable(ctx: Context) -> None:
    journal("start", ctx)


@app.task(save_result=True)
async def bad_result(ctx: Context) -> object:
    journal("start", ctx)
    return object()


@app.task
async def takes_two(ctx: Context, first: int, second: int) -> None:
    journal("start", ctx)
