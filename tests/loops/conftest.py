"""Programs in processes of their own, on each kind of store, with every warning shown."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from acceptance.stores import STORES

PREAMBLE = """
import asyncio, logging, os, sys, threading, warnings
from aioq import Aarq
from aioq.errors import *

# a slow machine is no fault of the program
logging.getLogger("asyncio").setLevel(logging.ERROR)
app = Aarq(os.environ["AIOQ_TEST_STORE"])

@app.task(name="t", save_result=True)
async def task(ctx, n: int) -> int:
    return n

async def known(*jobs):
    return [(await task.get_job(job.id)).status for job in jobs]
"""


@pytest.fixture(scope="module", params=["memory", *STORES])
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    unavailable: Callable[[str], NoReturn],
) -> Iterator[str]:
    """The URL of each kind of store in turn, a server of these tests' own where it is one."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    if kind == "memory":
        yield "memory://"
        return
    store = STORES[kind]
    if (missing := store.missing()) is not None:
        unavailable(missing)
    if store.server is None:
        yield store.open(folder).fresh(folder)
        return
    server = store.server(folder)
    server.start()
    yield server.url
    server.close()


@pytest.fixture
def run(place: str) -> Callable[[str], list[str]]:
    """Runs a program on the store; its lines, when it said nothing else and ended in time."""

    def run(program: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PREAMBLE + program],
            env={**os.environ, "AIOQ_TEST_STORE": place},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()

    return run
