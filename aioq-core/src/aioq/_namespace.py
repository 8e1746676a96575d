"""Namespaces: how apps that share a store keep out of each other's sight."""

import re
from typing import Final

from aioq.errors import InvalidOption

__all__ = ["DEFAULT_NAMESPACE", "check_namespace"]

DEFAULT_NAMESPACE: Final = "aioq"
"""Where apps are that name none."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
# As short as a PostgreSQL schema has to be with its prefix, and without capitals because file
# systems differ on them.


def check_namespace(name: object) -> str:
    """The name, when it can be one in every store.

    Raises:
        InvalidOption: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidOption(
            f"a namespace is a name of 1 to 40 of the characters a-z, 0-9, _ and -, beginning with "
            f"a letter or digit, got {name!r}"
        )
    return name
