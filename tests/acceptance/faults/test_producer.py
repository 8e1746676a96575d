"""Enqueueing while connections are cut and the server dies: each job is stored, and stored once."""

import random
import time
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import pytest
from acceptance.stores import Server
from servers.proxy import Proxy

from aioq import Aarq
from aioq.errors import BrokerUnavailable, JobExists

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PRODUCERS = 20
EACH = 150
CUT_EVERY = 3
"""Calls; a cut that came by the clock could let none through on a slow machine."""


async def test_what_is_enqueued_during_cuts_is_stored_once(
    jobs: ModuleType,
    worker_url: str,
    server: Server,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cuts hit requests and replies alike; what the client sends again is never doubled."""
    app = Aarq(worker_url)

    @app.task(name="jobs_app.work")
    async def work(ctx: object, seconds: float = 0.0) -> None: ...

    accepted: list[str] = []
    calls = unanswered = 0
    took = 0.001
    restarted = False
    dice = random.Random(11)
    send = app.broker.enqueue

    async def disturb(delay: float) -> None:
        nonlocal restarted
        await anyio.sleep(delay)
        await anyio.to_thread.run_sync(proxy.cut)
        if len(accepted) > PRODUCERS * EACH // 2 and not restarted:
            restarted = True
            await anyio.to_thread.run_sync(server.kill)
            await anyio.to_thread.run_sync(server.start)

    async def on_the_wire(*arguments: Any, **options: Any) -> Any:
        """A call of the broker, and a cut at some moment of every third."""
        nonlocal calls, unanswered, took
        calls += 1
        if calls % CUT_EVERY == 0:
            cutting.start_soon(disturb, dice.uniform(0, took))
        began = time.monotonic()
        try:
            answers = await send(*arguments, **options)
        except BrokerUnavailable:
            unanswered += 1
            raise
        took = time.monotonic() - began
        return answers

    monkeypatch.setattr(app.broker, "enqueue", on_the_wire)

    async def produce() -> None:
        for _ in range(EACH):
            accepted.append((await work.enqueue()).id)

    async with app, anyio.create_task_group() as cutting, anyio.create_task_group() as producing:
        for _ in range(PRODUCERS):
            producing.start_soon(produce)
    assert restarted
    assert unanswered > 10, "the cuts hit no call"
    (stats,) = await jobs.app.broker.queue_stats()
    assert stats.pending == len(set(accepted)) == PRODUCERS * EACH
    with pytest.raises(JobExists):
        await jobs.work.options(job_id=accepted[0]).enqueue()
