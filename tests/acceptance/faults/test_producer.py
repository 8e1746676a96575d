"""Enqueueing while connections are cut and the server dies: each job is stored, and stored once."""

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
EACH = 400


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
    unanswered = 0
    restarted = False

    send = app.broker.enqueue

    async def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal unanswered
        try:
            return await send(*arguments, **options)
        except BrokerUnavailable:
            unanswered += 1
            raise

    monkeypatch.setattr(app.broker, "enqueue", counting)

    async def produce() -> None:
        for _ in range(EACH):
            accepted.append((await work.enqueue()).id)

    async def cut() -> None:
        nonlocal restarted
        while True:
            await anyio.to_thread.run_sync(proxy.cut)
            if len(accepted) > PRODUCERS * EACH // 2 and not restarted:
                await anyio.to_thread.run_sync(server.kill)
                await anyio.to_thread.run_sync(server.start)
                restarted = True
            await anyio.sleep(0.02)

    async with app, anyio.create_task_group() as cutting:
        cutting.start_soon(cut)
        async with anyio.create_task_group() as producing:
            for _ in range(PRODUCERS):
                producing.start_soon(produce)
        cutting.cancel_scope.cancel()
    assert restarted
    assert unanswered > 10, "the cuts hit no call"
    (stats,) = await jobs.app.broker.queue_stats()
    assert stats.pending == len(set(accepted)) == PRODUCERS * EACH
    with pytest.raises(JobExists):
        await jobs.work.options(job_id=accepted[0]).enqueue()
