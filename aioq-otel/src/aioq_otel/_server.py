"""Where the store is, as attributes; never with credentials."""

from urllib.parse import unquote, urlsplit

from aioq_otel import _names as names

__all__ = ["server_of"]

DEFAULT_PORTS = {"postgres": 5432, "postgresql": 5432, "redis": 6379, "rediss": 6379}


def server_of(url: str) -> dict[str, str | int]:
    """Address and port of the (first) server; the path of a socket; nothing for a file.

    Args:
        url: a broker's, which shows no password.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return {names.SERVER_ADDRESS: unquote(parts.path)}
    if parts.scheme not in DEFAULT_PORTS:
        return {}
    first = parts.netloc.rpartition("@")[2].partition(",")[0]
    try:
        single = urlsplit(f"//{first}")
        host, port = single.hostname, single.port
    except ValueError:
        return {}
    if not host:
        return {}
    return {
        names.SERVER_ADDRESS: unquote(host),
        names.SERVER_PORT: port or DEFAULT_PORTS[parts.scheme],
    }
