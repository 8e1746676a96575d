"""What went wrong in redis-py or in Redis, in aioq's words."""

import asyncio
import re
import struct
from collections.abc import Generator
from contextlib import contextmanager

from redis import exceptions as driver

from aioq.errors import AioqError, BatchRejected, BrokerError, BrokerUnavailable, ConfigurationError

__all__ = ["UNSTORABLE", "packing", "translate", "translated"]

UNSTORABLE = (struct.error, OverflowError, UnicodeError, ValueError)
"""What packing raises for a value that has no place in Redis."""

_FULL = "Redis is out of memory and takes no new jobs: raise maxmemory, or let the workers drain it"
_AGAIN = {
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "the replica has lost its master",
    "READONLY": "this server has become a replica",
    "CLUSTERDOWN": "the cluster does not serve this slot",
    "TRYAGAIN": "the slot is moving",
    "BUSY": "Redis is busy with a script",
    "MISCONF": "Redis cannot write its data to disk and takes no writes",
    "NOREPLICAS": "too few replicas are connected (min-replicas-to-write)",
    "UNBLOCKED": "the server gave up a blocking call",
}
_REFUSED = {
    "NOAUTH": "Redis wants a password",
    "WRONGPASS": "Redis does not take this user and password",
    "NOPERM": "the Redis user may not do this",
}
_IN_SCRIPT = re.compile(r"@user_script: ?\d+:.*?\b([A-Z]{4,})\b")
"""Before Redis 7 the word for what went wrong in a script stands behind the script's line."""
_SAID_BY_SCRIPT = ("Error running script", "@user_script")
_LOST = (driver.ConnectionError, driver.TimeoutError, OSError, asyncio.IncompleteReadError)


@contextmanager
def translated(where: str) -> Generator[None, None, None]:
    """Raise aioq's errors for those of the driver; ``where`` names the store."""
    try:
        yield
    except AioqError:
        raise  # said already; as a ConnectionError it would be said twice
    except (driver.RedisError, *_LOST) as exc:
        raise translate(exc, where) from exc


@contextmanager
def packing() -> Generator[None, None, None]:
    """Raise ``BatchRejected`` for a value that has no place in Redis."""
    try:
        yield
    except UNSTORABLE as exc:
        raise BatchRejected(f"a value cannot be stored: {exc}") from exc


def translate(exc: Exception, where: str) -> AioqError:
    """The exception that a caller gets for one of the driver."""
    if isinstance(exc, driver.OutOfMemoryError) or "OOM command not allowed" in str(exc):
        return BrokerError(f"{where}: {_FULL}")
    if isinstance(exc, driver.AuthenticationError | driver.AuthorizationError):
        return ConfigurationError(f"{where}: {exc}")
    code = _code_of(exc)
    if code in _AGAIN:
        return BrokerUnavailable(f"{where}: {_AGAIN[code]} ({exc})")
    if isinstance(exc, driver.AskError):
        return BrokerUnavailable(f"{where}: the queue is moving to another server ({exc})")
    if isinstance(exc, _LOST):
        reason = str(exc) or "no answer in time"
        return BrokerUnavailable(f"{where} cannot be reached: {reason}")
    if code in _REFUSED:
        return ConfigurationError(f"{where}: {_REFUSED[code]} ({exc})")
    if code == "WRONGTYPE":
        return BrokerError(f"{where}: a key of aioq holds something else ({exc})")
    return BrokerError(f"{where}: {exc}")


def _code_of(exc: Exception) -> str:
    """Redis' word for the error; the driver keeps it apart where it has a class for it."""
    code: str | None = getattr(exc, "status_code", None)
    text = str(exc)
    if text.startswith(_SAID_BY_SCRIPT) and (inside := _IN_SCRIPT.search(text)):
        return inside[1]
    return code or text.partition(" ")[0]
