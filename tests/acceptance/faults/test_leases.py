"""An outage that is longer than the leases: whoever lives keeps his jobs."""

from types import ModuleType

import anyio
import anyio.to_thread
import pytest
from acceptance.harness import Fleet, Journal, eventually
from acceptance.stores import Server
from servers.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEASE = 1.5
OUTAGE = 3 * LEASE


async def test_three_outages_of_three_leases_cost_no_job_anything(
    server: Server, proxy: Proxy, jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    """The server is dead, its connections are refused, its bytes are held up."""
    for _ in range(2):
        await fleet.start("-c", "6", lease=LEASE)
    sent = await jobs.app.enqueue_many([jobs.work.job(4 * OUTAGE) for _ in range(10)])
    await eventually(lambda: len(journal.count("start")) == 10, 5)

    async def renewed() -> None:
        """The workers are back, and have had the time to renew."""
        probe = await jobs.square.enqueue(1)
        assert await probe.wait(timeout=10) == 1
        await anyio.sleep(LEASE / 2)

    await anyio.to_thread.run_sync(server.kill)
    await anyio.sleep(OUTAGE)
    await anyio.to_thread.run_sync(server.start)
    await renewed()
    await anyio.to_thread.run_sync(proxy.refuse)
    await anyio.sleep(OUTAGE)
    proxy.accept()
    await renewed()
    await anyio.to_thread.run_sync(proxy.hold)
    await anyio.sleep(OUTAGE)
    await anyio.to_thread.run_sync(proxy.release)
    assert journal.count("end") == {}, "the jobs ended before the last outage did"
    for job in sent:
        await job.finished(timeout=30)
        assert (job.status, job.crashes, job.retries) == ("completed", 0, 0)
    assert set(journal.count("start").values()) == {1}
    assert set(journal.count("end")) == {job.id for job in sent}
    assert not [log for worker in fleet.workers for log in worker.logged("job.stale")]
