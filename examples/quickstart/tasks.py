"""The app: `aioq worker tasks:app` runs these tasks, enqueue.py sends jobs for them."""

import hashlib

from aioq import Aarq, Context

# The broker is the one that the environment variable AIOQ_BROKER_URL names. Without it, it is
# sqlite:///aioq.db in the working directory.
app = Aarq()


@app.task(save_result=True)
async def compute(ctx: Context, n: int) -> int:
    return n * n


@app.task(retries=3, retry_delay=0.2, save_result=True)
async def ask_weather(ctx: Context, city: str) -> str:
    """Fails twice, as a service under load does; the third attempt succeeds."""
    if ctx.attempt < 3:
        raise ConnectionError(f"no forecast for {city} right now")
    return f"{city}: sunny, on attempt {ctx.attempt}"


@app.task(save_result=True)
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@app.task(save_result=True)
async def greet_all(ctx: Context, names: list[str]) -> list[str]:
    """A task that enqueues others; it returns the ids of their jobs."""
    jobs = await app.enqueue_many(greet.job(name) for name in names)
    return [job.id for job in jobs]


@app.task(save_result=True)
def checksum(ctx: Context, text: str) -> str:
    """A plain function: it runs in a thread, and does not block the event loop."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@app.task(save_result=True)
async def who_am_i(ctx: Context) -> dict[str, str]:
    """What `ctx` tells; `ctx["job_id"]` and `ctx.job_id` are the same."""
    return {
        "worker_id": ctx["worker_id"],
        "job_id": ctx["job_id"],
        "broker": type(ctx["broker"]).__name__,
    }
