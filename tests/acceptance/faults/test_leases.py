"""An outage that is longer than the leases: whoever lives keeps his jobs."""

from pathlib import Path
from types import ModuleType

import anyio
import anyio.to_thread
import pytest
from acceptance.harness import Fleet, Journal, eventually
from acceptance.stores import Server
from servers.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEASE = 3.0
OUTAGE = 3 * LEASE


async def test_three_outages_of_three_leases_cost_no_job_anything(
    server: Server, proxy: Proxy, jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    """The server is dead, its connections are refused, its bytes are held up."""
    for _ in range(2):
        await fleet.start("-c", "6", lease=LEASE)
    over = tmp_path / "over"
    sent = await jobs.app.enqueue_many([jobs.work_until.job(str(over)) for _ in range(10)])
    await eventually(lambda: len(journal.count("start")) == 10, 30)

    async def back() -> None:
        """A worker reaches the store; and what was claimed before this is on the server's disk."""
        probe = await jobs.square.enqueue(1)
        assert await probe.wait(timeout=60) == 1

    await back()
    await anyio.to_thread.run_sync(server.kill)
    await anyio.sleep(OUTAGE)
    await anyio.to_thread.run_sync(server.start)
    await back()
    await anyio.to_thread.run_sync(proxy.refuse)
    await anyio.sleep(OUTAGE)
    proxy.accept()
    await back()
    await anyio.to_thread.run_sync(proxy.hold)
    await anyio.sleep(OUTAGE)
    await anyio.to_thread.run_sync(proxy.release)
    await back()
    over.touch()
    for job in sent:
        await job.finished(timeout=60)
        assert (job.status, job.retries) == ("completed", 0)
        by = {entry.pid for entry in journal.of(job.id)}
        if not by & journal.stood_still():  # for as long as a lease, and not for the outage
            assert (job.crashes, len(journal.of(job.id))) == (0, 1)
    assert set(journal.count("end")) == {job.id for job in sent}
    assert journal.stood_still() or not fleet.lost_leases()
