"""The URL: which servers, and how redis-py connects to them."""

import socket
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.connection import parse_url

from aioq.errors import ConfigurationError, InvalidOption

__all__ = ["Address", "Server"]

_SCHEMES = ("redis", "rediss", "unix")
_DEFAULT_PORT = 6379


class Address(NamedTuple):
    """One server; ``port`` is 0 for a socket file, whose path is ``host``."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Server:
    """What all connections of one broker have in common.

    Attributes:
        seeds: where to begin; several for a cluster, ``redis://a:6379,b:6379``.
        shown: the URL without user, password and options.
        scheme: redis, rediss or unix.
        options: for redis-py's connection class.
    """

    seeds: tuple[Address, ...]
    shown: str
    scheme: str
    options: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str, options: dict[str, Any]) -> "Server":
        """Read a URL; its query gives options of redis-py, and ``options`` wins over them.

        Raises:
            InvalidOption: it is not a URL of Redis.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise InvalidOption(
                f"a Redis URL begins with redis://, rediss:// or unix://, got {_safe(url)!r}"
            )
        user, at, hosts = parts.netloc.rpartition("@")
        first, *others = hosts.split(",")
        try:
            settings: dict[str, Any] = dict(
                parse_url(urlunsplit((parts.scheme, user + at + first, *parts[2:])))
            )
            seeds = [
                Address(settings.pop("host", "localhost"), settings.pop("port", _DEFAULT_PORT)),
                *map(_further, others),
            ]
        except ValueError as exc:
            raise InvalidOption(f"{_safe(url)!r} is no URL of Redis: {exc}") from exc
        settings.pop("connection_class", None)
        if parts.scheme == "unix":
            seeds = [Address(settings.pop("path", ""), 0)]
            if not seeds[0].host:
                raise InvalidOption("unix:// wants the path of a socket: unix:///run/redis.sock")
        settings.update(options)
        shown = _shown(parts.scheme, seeds, settings.get("db", 0))
        return cls(tuple(seeds), shown, parts.scheme, settings)

    def connection(self, address: Address, connect_timeout: float) -> Any:
        """An asynchronous connection of redis-py, not connected yet."""
        classes = {
            "redis": redis.asyncio.Connection,
            "rediss": redis.asyncio.SSLConnection,
            "unix": redis.asyncio.UnixDomainSocketConnection,
        }
        # No timeout of the driver's: each call has a deadline of its own, blocking ones included.
        return self._built(classes[self.scheme], address, connect_timeout, socket_timeout=None)

    def blocking_connection(self, address: Address, timeout: float) -> Any:
        """A connection of redis-py for a thread, not connected yet."""
        classes = {
            "redis": redis.Connection,
            "rediss": redis.SSLConnection,
            "unix": redis.UnixDomainSocketConnection,
        }
        return self._built(classes[self.scheme], address, timeout, socket_timeout=timeout)

    def _built(
        self, made_by: Any, address: Address, connect_timeout: float, **timeouts: Any
    ) -> Any:
        where: dict[str, Any] = {"path": address.host}
        if self.scheme != "unix":
            where = {
                "host": address.host,
                "port": address.port,
                "socket_keepalive": True,
                "socket_keepalive_options": _keepalive(),
            }
        fixed = {
            "socket_connect_timeout": connect_timeout,
            "decode_responses": False,
            "protocol": 2,
            "retry": None,
        }
        try:
            return made_by(**where, **self.options, **timeouts, **fixed)
        except TypeError as exc:
            raise ConfigurationError(
                f"{self.shown}: redis-py does not know an option ({exc}): correct it, or leave it "
                f"out"
            ) from exc


def _further(place: str) -> Address:
    """A server that stands behind the first in a URL."""
    parts = urlsplit("//" + place)
    if not parts.hostname:
        raise ValueError("a comma stands between two servers")
    return Address(parts.hostname, parts.port or _DEFAULT_PORT)


def _keepalive() -> dict[int, int]:
    """Probe a silent connection after 5 s, and give up what was sent but not confirmed in 10 s."""
    wanted = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 10_000}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _shown(scheme: str, seeds: list[Address], db: Any) -> str:
    if scheme == "unix":
        return f"unix://{seeds[0].host}"
    hosts = ",".join(map(str, seeds))
    return f"{scheme}://{hosts}/{db}"


def _safe(url: str) -> str:
    """The URL as it may be shown: what stands before the host may be a password."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0]
