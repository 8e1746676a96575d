"""The app that the worker processes of these tests serve.

Every task writes to a journal outside the store when it starts and when it ends: the oracle that
tells what really ran.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aioq import Aarq, Context

BEAT = 0.1
LATE = 0.4


@asynccontextmanager
async def lifespan(app: Aarq) -> AsyncIterator[None]:
    threading.Thread(target=beat, daemon=True).start()
    yield


app = Aarq(lifespan=lifespan)


def beat() -> None:
    """Tell the journal when this whole process has stood still, as on a busy machine it may."""
    while True:
        began = time.monotonic()
        time.sleep(BEAT)
        if time.monotonic() - began > BEAT + LATE:
            write("still", "-", 0)


def write(event: str, job_id: str, attempt: int) -> None:
    """One line, appended in one write."""
    line = f"{event} {job_id} {os.getpid()} {time.monotonic():.6f} {attempt}\n"
    file = os.open(os.environ["AIOQ_TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def journal(event: str, ctx: Context) -> None:
    write(event, ctx.job_id, ctx.attempt)


@contextmanager
def told(ctx: Context) -> Iterator[None]:
    """Start and end of a job; ``stop`` where it is cancelled."""
    journal("start", ctx)
    try:
        yield
    except asyncio.CancelledError:
        journal("stop", ctx)
        raise
    journal("end", ctx)


@app.task
async def work(ctx: Context, seconds: float = 0.0) -> None:
    with told(ctx):
        await asyncio.sleep(seconds)


@app.task
async def work_until(ctx: Context, file: str) -> None:
    """Runs until the test has made the file."""
    with told(ctx):
        while not os.path.exists(file):  # noqa: ASYNC110, ASYNC240, PTH110 - another process does
            await asyncio.sleep(0.05)


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
