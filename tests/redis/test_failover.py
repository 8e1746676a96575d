"""Worker processes behind a name that follows the primary, while a replica is promoted."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import anyio
import anyio.to_thread
import pytest
from acceptance.conftest import fleet as fleet
from acceptance.conftest import jobs as jobs
from acceptance.conftest import journal as journal
from acceptance.conftest import worker_url as worker_url
from acceptance.harness import LEASE, Fleet, Journal, eventually, promised
from servers.proxy import Proxy
from servers.redis import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def broker_url(proxy: Proxy) -> str:
    """The client goes by that name as well."""
    return f"redis://127.0.0.1:{proxy.port}/0"


async def test_a_worker_goes_on_with_the_promoted_replica(
    server: RedisServer,
    new_server: Callable[..., RedisServer],
    proxy: Proxy,
    jobs: ModuleType,
    fleet: Fleet,
    journal: Journal,
    tmp_path: Path,
) -> None:
    """Scripts, markers and subscriptions are gone; the jobs that run are kept, uncharged."""
    replica = await anyio.to_thread.run_sync(
        lambda: new_server(options={"replicaof": ("127.0.0.1", server.port)})
    )
    with replica.client() as second, server.client() as first:
        await eventually(lambda: second.info("replication")["master_link_status"] == "up", 10)
        workers = [await fleet.start("-c", "2") for _ in range(2)]
        over = tmp_path / "over"
        long = await jobs.app.enqueue_many([jobs.work_until.job(str(over)) for _ in range(2)])
        await eventually(lambda: len(journal.count("start")) == 2, 10)
        waiting = await jobs.work.options(delay=1.0).enqueue()
        first.set("last", "written")
        await eventually(lambda: second.get("last") == b"written", 10)
        await anyio.to_thread.run_sync(server.kill)
        second.replicaof("NO", "ONE")
        proxy.lead_to(replica.port)
        await anyio.to_thread.run_sync(proxy.cut)
    fresh = await jobs.square.enqueue(4)
    assert await fresh.wait(timeout=promised(10)) == 16
    await anyio.sleep(LEASE)
    over.touch()
    for job in [*long, waiting]:
        await job.finished(timeout=promised(10))
        assert job.status == "completed"
        if not journal.stood_still():
            assert (job.crashes, len(journal.of(job.id))) == (0, 1)
    assert [worker.process.poll() for worker in workers] == [None, None]
