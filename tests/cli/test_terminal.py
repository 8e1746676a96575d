"""What is drawn on a terminal, and only there: the live view, and bars of progress."""

import asyncio
import json
import os
import re
import sys
from types import SimpleNamespace

import pytest
from cli.terminal import COLUMNS, Terminal

from aioq._outcome import Succeeded
from aioq.cli._progress import Progress, bar
from aioq.cli._watch import watch
from aioq.errors import BrokerUnavailable
from aioq.plugins import QueueStats

TASKS = """
import anyio

from aioq import Aarq

app = Aarq("sqlite:///jobs.db")


@app.task(queue="mail")
async def work(ctx, n: int) -> None:
    await anyio.sleep(0.1)
    print("half", end="", flush=True)
    print(f" and half {n}")
    if n == 3:
        raise ValueError("boom")


@app.task(queue="mail")
async def quick(ctx) -> None: ...


async def fill(count, task=work):
    async with app:
        await app.enqueue_many([task.job(*([n] if task is work else [])) for n in range(count)])
"""
BAR = re.compile(r"\[#*\.*\] +(\d+)%  ([\d,]+) of ([\d,]+) jobs, ")
FILL = "import asyncio, tasks; asyncio.run(tasks.fill({}))"


@pytest.fixture
def fill(project, python):
    (project / "tasks.py").write_text(TASKS)
    return lambda arguments: python("-c", FILL.format(arguments))


@pytest.fixture
def terminal(project, environment):
    def terminal(*words):
        return Terminal([sys.executable, "-m", "aioq", *words], project, environment)

    return terminal


BURST = ("worker", "tasks:app", "--burst", "-c", "2", "--log-format", "json")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_burst_shows_its_progress_and_tears_no_line(fill, terminal, loop):
    fill("30")
    with terminal(*BURST, "--loop", loop) as screen:
        assert screen.end() == 0
    drawn = [tuple(map(int, found)) for found in BAR.findall(screen.output)]
    assert len(drawn) >= 3
    assert 0 < drawn[0][2] <= 30
    assert [done for _, done, _ in drawn] == sorted(done for _, done, _ in drawn)
    *lines, last = screen.lines
    assert last == "", "nothing of the bar is left"
    assert not [line for line in lines if BAR.search(line)]
    (end,) = [line for line in lines if line.startswith("30 jobs in ")]
    assert end.endswith(" s: 29 completed, 1 failed")
    lines.remove(end)
    logs = [json.loads(line) for line in lines if line.startswith("{")]
    assert [log["event"] for log in logs] == [
        *("worker.starting", "worker.started", "job.failed", "worker.stopping", "worker.stopped"),
    ]
    printed = sorted(line for line in lines if not line.startswith("{"))
    halves = "".join(printed)
    assert all(halves.count(f" and half {n}") >= 1 for n in range(30))


def test_a_burst_shows_nothing_where_there_is_no_terminal(fill, shell):
    fill("1")
    done = shell(*BURST)
    assert (done.code, done.out) == (0, "half and half 0\n")
    assert [line[0] for line in done.err.splitlines()] == ["{"] * 4
    assert not BAR.search(done.err)


def test_a_worker_without_end_shows_none(fill, terminal):
    fill("1")
    with terminal(*(word for word in BURST if word != "--burst")) as screen:
        screen.until("half 0")
        screen.interrupt()
        assert screen.end() == 0
    assert not BAR.search(screen.output)


def test_queues_are_watched_in_place(fill, terminal):
    fill("1")
    with terminal("queues", "tasks:app", "--watch", "--interval", "0.1") as screen:
        screen.until("\nmail   1 ")
        fill("2")
        screen.until("\nmail   3 ")
        screen.interrupt()
        assert screen.end() == 130
    assert screen.output.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
    assert screen.output.rstrip("\r\n").endswith("\x1b[?25h\x1b[?1049l")
    frames = screen.output.split("\x1b[H")[1:]
    lines = [line for frame in frames for line in frame.split("\x1b[K")[:-1]]
    assert max(len(line.strip("\r\n")) for line in lines) <= COLUMNS


def test_deleting_many_asks_and_shows_its_progress(fill, terminal):
    fill("1200, tasks.quick")
    with terminal("queues", "purge", "tasks:app", "mail") as screen:
        screen.until("Delete 1,200 jobs at sqlite://")
        screen.type("y\n")
        assert screen.end() == 0
    assert "500/1200" in screen.output
    assert screen.lines[-2] == "deleted 1,200 jobs"


async def test_a_view_stays_when_the_store_goes_and_goes_on_when_it_returns(capsys, monkeypatch):
    seen = asyncio.Event()
    answers = iter(["one", BrokerUnavailable("mars://host is gone"), "two\n" * 99])

    async def read():
        answer = next(answers, None)
        if answer is None:
            seen.set()
            return await asyncio.Future()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 10)))
    view = asyncio.create_task(watch("mars://host", read, 0.001))
    async with asyncio.timeout(60):
        await seen.wait()
    view.cancel()
    await asyncio.wait([view])
    _, *frames = capsys.readouterr().out.split("\x1b[H")
    assert [frame.split("\x1b[K\n")[1] for frame in frames] == [
        *("every 0.001 s, Ctrl-C ends", "OUT OF REACH: mars://host is gone"),
        "every 0.001 s, Ctrl-C ends",
    ]
    assert [frame.split("\x1b[K\n")[3].split("\x1b")[0] for frame in frames] == [
        "one",
        "one",
        "two",
    ]
    assert frames[2].count("\x1b[K") == 10
    assert "... and 94 more" in frames[2]


async def test_a_job_that_ends_while_the_store_counts_is_counted_once():
    shown, drawn = [], asyncio.Event()
    line = SimpleNamespace(show=lambda text: shown.append(text) or drawn.set())
    progress = Progress(line, ["mail"])

    class Store:
        async def counts(self, queues):
            found = [QueueStats("mail", pending=28, running=2)]
            await progress.settled(None, Succeeded(None))
            return found

    async with asyncio.timeout(60), progress.lifespan(SimpleNamespace(broker=Store())):
        await drawn.wait()
    assert "1 of 30 jobs" in shown[0]


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (0, 0, 0.0, "[####################] 100%  0 of 0 jobs, 0/s"),
        (0, 4000, 1.0, "[....................]   0%  0 of 4,000 jobs, 0/s"),
        (1000, 4000, 20.0, "[#####...............]  25%  1,000 of 4,000 jobs, 50/s, 60 s left"),
        (5, 4, 1.0, "[####################] 100%  5 of 5 jobs, 5/s, 0 s left"),
    ],
)
def test_the_bar(done, total, seconds, text):
    assert bar(done, total, seconds) == text
