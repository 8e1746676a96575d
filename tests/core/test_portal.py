"""``enqueue_sync``: for callers that have no event loop."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import pytest

from aioq import Aarq, Context, TaskDef
from aioq.errors import ConfigurationError, InvalidArguments, JobExists


@pytest.fixture
def task(app: Aarq) -> TaskDef[..., Any]:
    @app.task
    async def task(ctx: Context, n: int) -> None: ...

    return task


def test_a_plain_thread_can_enqueue(task: TaskDef[..., Any], broker: Any) -> None:
    job = task.enqueue_sync(5)
    assert job.enqueued_at is not None
    assert broker.opened == 1
    task.enqueue_sync(6)
    assert broker.opened == 1
    assert broker.calls[0][0] == [job.id]


def test_many_threads_share_one_loop(task: TaskDef[..., Any], broker: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(task.enqueue_sync, range(32)))
    assert len({job.id for job in jobs}) == 32
    assert sum(len(ids) for ids, _, _ in broker.calls) == 32
    assert len({producer for _, producer, _ in broker.calls}) == 1


async def test_a_thread_of_a_plain_task_can_enqueue(task: TaskDef[..., Any]) -> None:
    job = await anyio.to_thread.run_sync(task.enqueue_sync, 5)
    assert job.status == "pending"


async def test_where_an_event_loop_runs_it_is_refused(task: TaskDef[..., Any], broker: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        task.enqueue_sync(5)
    assert str(refused.value) == (
        "enqueue_sync() would block the event loop that runs in this thread: use 'await "
        "task.enqueue(...)'"
    )
    assert broker.calls == []


def test_errors_reach_the_caller(task: TaskDef[..., Any]) -> None:
    with pytest.raises(InvalidArguments):
        task.enqueue_sync("five")
    own = task.options(job_id="00000000-0000-4000-8000-000000000000")
    own.enqueue_sync(1)
    with pytest.raises(JobExists):
        own.enqueue_sync(1)


def test_the_process_ends_without_being_asked() -> None:
    program = """
from aioq import Aarq
app = Aarq("memory://")
@app.task(name="t")
async def task(ctx): ...
print(task.enqueue_sync().status)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("pending\n", "")
