"""Reading a DSN: what it hides is never shown, and what the driver does not know is named."""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from aioq.errors import ConfigurationError

__all__ = ["Dsn", "read"]

SCHEMES: Final = ("postgresql", "postgres")
_SECRET: Final = {"password", "sslpassword", "passfile"}

_HOST: Final = r"(?:\[[^]@/?#]*\]|[^][:,@/?#]*)(?::\d*)?"
_REST: Final = re.compile(
    r"(?:(?P<user>[^][:@/?#]*)(?::[^][@/?#]*)?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<path>(?:/[^@?#]*)?)(?:\?(?P<query>[^#]*))?"
)
"""What follows the scheme, where no sign of a password can be taken for the end of one."""

_FOREIGN: Final = {
    "channel_binding": "leave it out; sslmode=verify-full makes sure that it is the right server",
    "connect_timeout": "leave it out, and pass PostgresBroker(timeout=...) if 5 s do not suit",
    **dict.fromkeys(
        (
            "fallback_application_name",
            "gssdelegation",
            "gssencmode",
            "hostaddr",
            "keepalives",
            "keepalives_count",
            "keepalives_idle",
            "keepalives_interval",
            "load_balance_hosts",
            "max_protocol_version",
            "min_protocol_version",
            "replication",
            "require_auth",
            "requirepeer",
            "requiressl",
            "sslcertmode",
            "sslcompression",
            "sslcrldir",
            "sslkeylogfile",
            "sslsni",
            "tcp_user_timeout",
        ),
        "leave it out",
    ),
}
"""Options of libpq that asyncpg would send to the server as settings, which it does not have."""


class Dsn(NamedTuple):
    """A DSN without passwords, and the names of its options."""

    shown: str
    options: frozenset[str]


def read(dsn: str) -> Dsn:
    """Check a DSN.

    Raises:
        ConfigurationError: it is no URL of PostgreSQL, or asyncpg does not know an option.
    """
    scheme, separator, rest = dsn.partition("://")
    if not separator or scheme not in SCHEMES:
        begins = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)", dsn)
        raise ConfigurationError(
            f"a PostgreSQL DSN begins with postgresql://, as in postgresql://localhost/app; this "
            f"one {f'begins with {begins[0]}:' if begins else 'names no scheme'}"
        )
    parts = _REST.fullmatch(rest)
    if parts is None:
        begin = re.split(r"[][:@/?#]", rest, maxsplit=1)[0]
        raise ConfigurationError(
            f"the DSN that begins with {scheme}://{begin} cannot be read: in a user or a password "
            f"write / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and ] as %5D; a port is a "
            f"number"
        )
    items = parse_qsl(parts["query"] or "", keep_blank_values=True)
    query = urlencode([item for item in items if item[0] not in _SECRET])
    user = "" if parts["user"] is None else f"{parts['user']}@"
    shown = f"{scheme}://{user}{parts['hosts']}{parts['path']}{'?' if query else ''}{query}"
    for name, _ in items:
        if name in _FOREIGN:
            raise ConfigurationError(
                f"{shown}: asyncpg, with which aioq connects, does not know the option "
                f"{name!r}: {_FOREIGN[name]}"
            )
    return Dsn(shown, frozenset(name for name, _ in items))
