"""Which broker an app works with: the one given, that of a URL, or the embedded default."""

import os
import re
import warnings
from pathlib import Path

from aioq._broker import BaseBroker
from aioq.errors import ConfigurationError, NoBroker
from aioq.plugins._registry import registry

__all__ = ["BROKER_URL", "broker_of", "default_broker"]

BROKER_URL = "AIOQ_BROKER_URL"
DEFAULT_URL = "sqlite:///aioq.db"


def broker_of(broker: BaseBroker | str) -> BaseBroker:
    """The broker itself, or the one that serves this URL.

    Raises:
        ConfigurationError: it is neither, or no installed broker serves the scheme.
    """
    if isinstance(broker, BaseBroker):
        return broker
    return _served(broker)


def _served(broker: object) -> BaseBroker:
    if not isinstance(broker, str):
        raise ConfigurationError(f"broker must be a broker or a URL, got {broker!r}")
    scheme, separator, _ = broker.partition("://")
    found = registry()
    served = {name: spec for spec in found.brokers().values() for name in spec.schemes}
    if not separator and Path(broker).suffix in (".db", ".sqlite", ".sqlite3"):
        raise ConfigurationError(
            f"{broker!r} is no URL: write sqlite:///{broker} for the SQLite file"
        )
    if not separator or scheme not in served:
        raise ConfigurationError(
            f"no installed broker serves {_without_password(broker)!r}; installed schemes: "
            f"{', '.join(f'{name}://' for name in sorted(served))}{_missing(scheme)}"
        )
    made: BaseBroker = found.load_broker(served[scheme])(broker)
    return made


_SHIPPED = {
    "postgres": "aioq-postgres",
    "postgresql": "aioq-postgres",
    "redis": "aioq-redis",
    "rediss": "aioq-redis",
    "sqlite": "aioq-sqlite",
    "unix": "aioq-redis",
}


def _missing(scheme: str) -> str:
    return f"; for {scheme}:// pip install {_SHIPPED[scheme]}" if scheme in _SHIPPED else ""


_PASSWORD = re.compile(r"(pass(?:word|wd)?=)[^&\s]*", re.IGNORECASE)
"""A parameter of a URL, or a word of a PostgreSQL connection string."""


def _without_password(url: str) -> str:
    hidden = _PASSWORD.sub(r"\1***", url)
    head, at, tail = hidden.rpartition("@")
    if not at:
        return hidden
    scheme, separator, credentials = head.partition("://")
    if not separator:
        scheme, credentials = "", head
    return f"{scheme}{separator}{credentials.partition(':')[0]}:***@{tail}"


def default_broker() -> BaseBroker:
    """The broker of an app that was given none: the environment's, else a SQLite file.

    Raises:
        NoBroker: there is neither a URL in the environment nor aioq-sqlite.
        ConfigurationError: no installed broker serves the URL.
    """
    url = os.environ.get(BROKER_URL)
    if url:
        return broker_of(url)
    if "SQLiteBroker" not in registry().brokers():
        raise NoBroker(
            f"no broker: pass one to Aarq(...), set {BROKER_URL}, or "
            f"'pip install aioq-sqlite' for the embedded default"
        )
    warnings.warn(
        f"no broker was given and {BROKER_URL} is not set: jobs are kept in "
        f"{Path('aioq.db').absolute()}",
        RuntimeWarning,
        stacklevel=4,
    )
    return broker_of(DEFAULT_URL)
