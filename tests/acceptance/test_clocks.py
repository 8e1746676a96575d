"""Workers and producers whose clocks are an hour wrong: only the server's counts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import anyio
import pytest
from acceptance.harness import Fleet, Journal, eventually, promised

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    # SQLite has no server, and so no clock but the host's.
    pytest.mark.parametrize("place", ["postgres", "redis"], indirect=True),
]
HOUR = 3_600
DELAY = 1.0
LEASE = 6.0
"""Long enough that no standstill of a busy machine looks like a wrong clock."""


@contextmanager
def clock_off_by(seconds: int) -> Iterator[None]:
    """What ``time`` tells this process."""
    real, real_ns = time.time, time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + seconds)
        patch.setattr(time, "time_ns", lambda: real_ns() + seconds * 10**9)
        yield


async def test_wrong_clocks_move_no_delay_no_lease_and_no_order(
    jobs: ModuleType, fleet: Fleet, journal: Journal, tmp_path: Path
) -> None:
    """One worker is an hour ahead, the other an hour behind, and so are the producers."""
    in_order = []
    for offset in (HOUR, -HOUR, 0):
        with clock_off_by(offset):
            in_order.append(await jobs.work.enqueue())
        await anyio.sleep(0.01)  # ids order what comes within one millisecond
    ahead = await fleet.start("-c", "1", lease=LEASE, clock=HOUR)
    await eventually(lambda: len(journal.count("end")) == 3, 10)
    starts = [entry.job_id for entry in journal.entries() if entry.event == "start"]
    assert starts == [job.id for job in in_order], "not in the order of the server's clock"

    behind = await fleet.start("-c", "1", lease=LEASE, clock=-HOUR)
    for offset in (HOUR, -HOUR):
        asked = time.monotonic()
        with clock_off_by(offset):
            delayed = await jobs.work.options(delay=DELAY).enqueue()
        await eventually(lambda job=delayed: journal.of(job.id) != [], DELAY + 5)
        assert DELAY <= journal.of(delayed.id)[0].at - asked <= promised(DELAY + 5)

    over = tmp_path / "over"
    held = [await jobs.work_until.enqueue(str(over)) for _ in range(2)]
    await eventually(lambda: all(journal.of(job.id) for job in held), 10)
    await anyio.sleep(LEASE + 1)
    assert set(journal.count("start").values()) == {1}, "a lease ran out by a wrong clock"
    ahead.kill()
    killed = time.monotonic()
    (interrupted,) = [job for job in held if journal.of(job.id)[0].pid == ahead.pid]
    over.touch()
    await eventually(lambda: len(journal.of(interrupted.id)) == 2, LEASE + 5)
    again = journal.of(interrupted.id)[1]
    assert again.pid == behind.pid
    assert again.at - killed <= promised(LEASE + 5)
    for job in held:
        await job.finished(timeout=promised(5))
        assert job.status == "completed"
