"""How to connect: the DSN, TLS and deadlines, in one object that every connection is made from."""

import asyncio
import ssl
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import asyncpg

from aioq.errors import ConfigurationError
from aioq_postgres._dsn import Dsn, read
from aioq_postgres._errors import translate
from aioq_postgres._types import Connection, KnowingConnection

__all__ = ["Connection", "Server", "Ssl"]

Ssl: TypeAlias = ssl.SSLContext | bool | str | None


@dataclass(frozen=True)
class Server:
    """A server and the way to it.

    Attributes:
        dsn: as asyncpg takes it.
        ssl: as ``asyncpg.connect(ssl=...)`` takes it; None leaves it to the DSN.
        statement_cache_size: prepared statements per connection; 0 behind a pooler.
        patience: seconds until a connection must be made.

    Raises:
        ConfigurationError: the DSN cannot be read, or asks for what asyncpg does not know.
    """

    dsn: str
    ssl: Ssl = None
    statement_cache_size: int = 100
    patience: float = 5.0

    def __post_init__(self) -> None:
        _ = self._read

    @cached_property
    def _read(self) -> Dsn:
        return read(self.dsn)

    @property
    def where(self) -> str:
        """The DSN without secrets."""
        return self._read.shown

    def at(self, dsn: str) -> "Server":
        """The same with another DSN, one that leads to a server and not to a pooler."""
        return replace(self, dsn=dsn, statement_cache_size=100)

    async def connect(self, *, opening: bool = False) -> Connection:
        """A new connection.

        Raises:
            BrokerUnavailable: the server is out of reach.
            ConfigurationError: it does not let us in, and ``opening`` says that this is the
                first try.
        """
        options: dict[str, Any] = {} if self.ssl is None else {"ssl": self.ssl}
        if "application_name" not in self._read.options:
            options["server_settings"] = {"application_name": "aioq"}
        try:
            async with asyncio.timeout(self.patience):
                connection: Connection = await asyncpg.connect(
                    self.dsn,
                    timeout=self.patience,
                    connection_class=KnowingConnection,
                    statement_cache_size=self.statement_cache_size,
                    # No limits: the statements are long, few, and the same for ever.
                    max_cacheable_statement_size=0,
                    max_cached_statement_lifetime=0,
                    **options,
                )
                return connection
        except ValueError as exc:
            raise ConfigurationError(f"{self.where}: {exc}") from exc
        except Exception as exc:
            raise translate(exc, self.where, opening=opening) from exc
