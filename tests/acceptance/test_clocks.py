"""Workers and producers whose clocks are an hour wrong: only the server's counts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import anyio
import pytest
from acceptance.harness import LEASE, RESCUE, Fleet, Journal, eventually, promised

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    # SQLite has no server, and so no clock but the host's.
    pytest.mark.parametrize("place", ["postgres", "redis"], indirect=True),
]
HOUR = 3_600
DELAY = 1.0


@contextmanager
def clock_off_by(seconds: int) -> Iterator[None]:
    """What ``time`` tells this process."""
    real, real_ns = time.time, time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + seconds)
        patch.setattr(time, "time_ns", lambda: real_ns() + seconds * 10**9)
        yield


async def test_wrong_clocks_move_no_delay_no_lease_and_no_order(
    jobs: ModuleType, fleet: Fleet, journal: Journal
) -> None:
    """One worker is an hour ahead, the other an hour behind, and so are the producers."""
    in_order = []
    for offset in (HOUR, -HOUR, 0):
        with clock_off_by(offset):
            in_order.append(await jobs.work.enqueue())
        await anyio.sleep(0.01)  # ids order what comes within one millisecond
    ahead = await fleet.start("-c", "1", clock=HOUR)
    await eventually(lambda: len(journal.count("end")) == 3, 10)
    starts = [entry.job_id for entry in journal.entries() if entry.event == "start"]
    assert starts == [job.id for job in in_order], "not in the order of the server's clock"

    behind = await fleet.start("-c", "1", clock=-HOUR)
    for offset in (HOUR, -HOUR):
        asked = time.monotonic()
        with clock_off_by(offset):
            delayed = await jobs.work.options(delay=DELAY).enqueue()
        await eventually(lambda job=delayed: journal.of(job.id) != [], DELAY + 5)
        assert DELAY <= journal.of(delayed.id)[0].at - asked <= promised(DELAY + 5)

    long = [await jobs.work.enqueue(3 * LEASE) for _ in range(2)]
    for job in long:
        await job.finished(timeout=promised(6 * LEASE))
    assert set(journal.count("start").values()) == {1}, "a lease ran out by a wrong clock"

    held = [await jobs.work.enqueue(2 * LEASE) for _ in range(2)]
    await eventually(lambda: all(journal.of(job.id) for job in held), 10)
    ahead.kill()
    killed = time.monotonic()
    (interrupted,) = [job for job in held if journal.of(job.id)[0].pid == ahead.pid]
    await eventually(lambda: len(journal.of(interrupted.id)) == 2, RESCUE + 2 * LEASE)
    again = journal.of(interrupted.id)[1]
    assert again.pid == behind.pid
    assert again.at - killed <= promised(RESCUE + 2 * LEASE), "its own job came before"
    for job in held:
        await job.finished(timeout=promised(6 * LEASE))
        assert job.status == "completed"
