import asyncio

import pytest
from aioq_slowjobs import SlowJobs
from structlog.testing import capture_logs

from aioq import Aarq, Context

app = Aarq("memory://", plugins=False)
app.use(SlowJobs(limit=0.05))


@app.task
async def nap(ctx: Context, seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.fixture
def aioq_app() -> Aarq:
    return app


@pytest.mark.parametrize(("seconds", "warnings"), [(0.1, 1), (0, 0)])
def test_only_slow_jobs_are_warned_of(aioq_jobs, seconds: float, warnings: int) -> None:
    nap.enqueue_sync(seconds)
    with capture_logs() as lines:
        aioq_jobs.run_sync()
    assert [line["event"] for line in lines].count("job.slow") == warnings
