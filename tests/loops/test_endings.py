"""What was opened by the way is closed when its event loop ends, or the process.

One process shows many things, because starting it takes longer than all of them.
"""

from collections.abc import Callable
from typing import TypeAlias

import pytest

Run: TypeAlias = Callable[[str], list[str]]


def test_loops_and_threads_each_open_the_app_and_close_it_at_their_end(run: Run):
    assert run("""
def in_threads(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

async def bare():
    job = await task.enqueue(1)
    print("bare:", *await known(job, await task.enqueue(2)))

asyncio.run(bare())
asyncio.run(bare())
for thread in threading.enumerate()[1:]:
    thread.join(60)
print("threads afterwards:", threading.active_count())

jobs = []
in_threads(*(lambda n=n: jobs.append(task.enqueue_sync(n)) for n in range(8)))

async def elsewhere():
    for job in jobs:
        await job.refresh()
    print("from another loop:", len(jobs), await jobs[0].cancel())

asyncio.run(elsewhere())

statuses = []

def in_a_loop(n):
    async def main():
        some = [await task.enqueue(n) for _ in range(20)]
        statuses.extend(await known(*some))
    asyncio.run(main())

in_threads(*(lambda n=n: in_a_loop(n) for n in range(4)),
           *(lambda n=n: [task.enqueue_sync(n) for _ in range(20)] for n in range(4)))
print("four loops:", len(statuses), set(statuses))

async def reopened():
    await app.close()
    print("closed:", *await known(await asyncio.to_thread(task.enqueue_sync, 2)))

asyncio.run(reopened())
print("at the end:", task.enqueue_sync(2).status)
""") == [
        "bare: pending pending",
        "bare: pending pending",
        "threads afterwards: 1",
        "from another loop: 8 True",
        "four loops: 80 {'pending'}",
        "closed: pending",
        "at the end: pending",
    ]


def test_a_child_of_a_fork_has_connections_of_its_own(run: Run):
    assert run("""
def in_a_child(name, leave):
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for having threads: it is the point
        child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        print(name, "ended with", os.waitstatus_to_exitcode(status))
        return
    job = task.enqueue_sync(2)
    print(name, job.status, *asyncio.run(known(job)))
    sys.stdout.flush()
    leave(3)

before = task.enqueue_sync(1)
asyncio.run(known(before))
in_a_child("a child that leaves in order", sys.exit)
print("the parent:", task.enqueue_sync(3).status, *asyncio.run(known(before)))

async def main():
    job = await task.enqueue(1)
    in_a_child("a child made in a loop", os._exit)
    print("the parent:", *await known(job))

asyncio.run(main())
""") == [
        "a child that leaves in order pending pending",
        "a child that leaves in order ended with 3",
        "the parent: pending pending",
        "a child made in a loop pending pending",
        "a child made in a loop ended with 3",
        "the parent: pending",
    ]


@pytest.mark.parametrize("place", ["memory", "sqlite"], indirect=True)
def test_trio_beside_asyncio(run: Run):
    assert run("""
import structlog, trio
from aioq import Worker
from aioq.worker import WorkerOptions

structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
elsewhere = task.enqueue_sync(1)

async def bare():
    job = await task.enqueue(2)
    print("bare:", *await known(job, elsewhere))

async def work():
    worker = Worker(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        job = await trio.to_thread.run_sync(task.enqueue_sync, 3)
        print("worked:", await job.wait(60), await elsewhere.wait(60))
        worker.stop()

trio.run(bare)
asyncio.run(bare())
trio.run(work)
asyncio.run(app.close())
print("threads afterwards:", sum(t.name.startswith("aioq-sqlite") for t in threading.enumerate()))
""") == [
        "bare: pending pending",
        "bare: pending pending",
        "worked: 3 1",
        "threads afterwards: 0",
    ]


@pytest.mark.parametrize(
    ("place", "broker"),
    [("postgres", "PostgresBroker"), ("redis", "RedisBroker")],
    indirect=["place"],
)
def test_a_broker_that_needs_asyncio_says_so_on_trio(run: Run, broker: str):
    assert (
        run("""
import trio

async def refused(opening):
    try:
        await opening()
    except ConfigurationError as exc:
        print(exc)

trio.run(refused, app.open)
trio.run(refused, app.broker.__aenter__)
""")
        == [
            f"{broker} needs asyncio and was opened on trio, where MemoryBroker and SQLiteBroker "
            f"work: start the program with asyncio.run"
        ]
        * 2
    )
