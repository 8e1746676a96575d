"""What a broker was made with, checked once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from aioq.errors import InvalidOption
from aioq_redis._address import Server

__all__ = ["Confirm", "Kept", "Offset", "Settings"]

Offset = Callable[[], int]

_OURS = (
    "socket_timeout",
    "socket_connect_timeout",
    "max_connections",
    "retry",
    "retry_on_timeout",
    "retry_on_error",
    "health_check_interval",
    "decode_responses",
    "protocol",
)
"""Options of redis-py that this broker decides, wherever they come from."""


class Kept(NamedTuple):
    """For how long, and how many, records of finished jobs are kept."""

    completed_ms: int
    completed: int
    other_ms: int
    other: int


class Confirm(NamedTuple):
    """What else has to have the writes of a call before it counts as done."""

    command: tuple[bytes | int, ...]
    """Waits, and answers with a number, or with one as its first item."""
    who: str


_CONFIRM: dict[str, Confirm | None] = {
    "server": None,
    "fsync": Confirm((b"WAITAOF", 1, 0), "its append-only file on disk"),
    "replicated": Confirm((b"WAIT", 1), "a replica"),
}


@dataclass(frozen=True)
class Settings:
    """The options of ``RedisBroker``, as its parts use them.

    Attributes:
        server: how to connect.
        kept: how much is remembered of finished jobs.
        durability: the option of this name.
        within: seconds for a call, and for a connection to be made.
        most: connections per server, for calls.
        allow_eviction: the option of this name.
        offset: for tests: ms that the scripts add to the server's clock; see ``Dialect.shifted``.
    """

    server: Server
    kept: Kept
    durability: str
    within: float
    most: int
    allow_eviction: bool
    offset: Offset | None

    @classmethod
    def read(
        cls,
        url: str,
        options: dict[str, Any],
        *,
        result_ttl: float,
        max_records: int,
        keep_failed: float,
        max_failed: int,
        durability: str,
        socket_timeout: float,
        max_connections: int,
        allow_eviction: bool,
        offset: Offset | None,
    ) -> "Settings":
        """Check what ``RedisBroker`` was given; ``options`` are those for redis-py.

        Raises:
            InvalidOption: an option has an impossible value.
        """
        if not 0.1 <= socket_timeout <= 60:
            raise InvalidOption(f"socket_timeout must be 0.1 to 60 seconds, got {socket_timeout}")
        limits = {
            "result_ttl": result_ttl,
            "max_records": max_records,
            "keep_failed": keep_failed,
            "max_failed": max_failed,
            "max_connections": max_connections,
        }
        for name, limit in limits.items():
            if limit < 1:
                raise InvalidOption(f"{name} must be at least 1, got {limit}")
        if durability not in _CONFIRM:
            raise InvalidOption(f"durability is one of {', '.join(_CONFIRM)}, got {durability!r}")
        server = Server.parse(url, options)
        kept_options = {name: value for name, value in server.options.items() if name not in _OURS}
        return cls(
            server=Server(server.seeds, server.shown, server.scheme, kept_options),
            kept=Kept(int(result_ttl * 1000), max_records, int(keep_failed * 1000), max_failed),
            durability=durability,
            within=socket_timeout,
            most=max_connections,
            allow_eviction=allow_eviction,
            offset=offset,
        )

    @property
    def confirm(self) -> Confirm | None:
        """What an enqueue waits for besides the server's answer."""
        return _CONFIRM[self.durability]

    @property
    def shown(self) -> str:
        """The URL without secrets, for messages."""
        return self.server.shown
