"""Every move is one Lua script, addressed by its content: two versions of aioq can share a server.

A script is put together from fragments of the folder ``lua``. Its first line names its keys, which
become locals; ``keys*`` means that the group repeats, once per queue.
"""

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Dialect", "Script", "Scripts"]

_RECORDS = ("bytes", "index", "records")
_MOVES = ("bytes", "index", "moves")
_BOTH = (*_RECORDS, "moves")
_PARTS: dict[str, tuple[str, ...]] = {
    "enqueue": (),
    "claim": ("bytes", "promote"),
    "settle": _MOVES,
    "renew": ("touch",),
    "upkeep": ("bytes", "promote", "touch", "index", "moves"),
    "cancel": _BOTH,
    "requeue": _RECORDS,
    "delete": _BOTH,
    "look": _RECORDS,
    "places": (),
    "scan": ("bytes",),
    "counts": ("bytes",),
    "pause": (),
    "watch": (),
    "beat": (),
    "workers": (),
}
_REFUSED_WHEN_FULL = frozenset({"enqueue", "requeue"})
"""Scripts that only add. All others free or move, and run when the store is full as well."""


class Dialect(NamedTuple):
    """What the text of the scripts depends on."""

    header: bool = True
    """Redis 7 reads flags from a first line; before, a script begins with a write that is never
    refused, and what follows a write is not refused either."""
    shifted: bool = False
    """A test moves the clock: each call brings an offset in ms as its last argument. The scripts of
    a broker that was not built so do not look for one."""


class Script(NamedTuple):
    """A script as the server knows it."""

    name: str
    text: bytes
    digest: str
    keys: tuple[str, ...]


class Scripts:
    """All scripts in one dialect, as attributes of their names."""

    enqueue: Script
    claim: Script
    settle: Script
    renew: Script
    upkeep: Script
    cancel: Script
    requeue: Script
    delete: Script
    look: Script
    places: Script
    scan: Script
    counts: Script
    pause: Script
    watch: Script
    beat: Script
    workers: Script

    def __init__(self, dialect: Dialect) -> None:
        self.by_name = {name: _compose(name, dialect) for name in _PARTS}
        vars(self).update(self.by_name)


@cache
def _compose(name: str, dialect: Dialect) -> Script:
    body = _read(name)
    marker, _, names = body.partition("\n")[0].removeprefix("-- ").partition(": ")
    keys = tuple(names.split())
    lines: list[str] = []
    drains = name not in _REFUSED_WHEN_FULL
    if dialect.header:
        lines.append("#!lua flags=allow-oom" if drains else "#!lua")
    elif drains:
        lines.append("redis.call('HDEL', KEYS[1], '')")
    lines.append(f"local EXTRA, KEY_COUNT = {int(dialect.shifted)}, {len(keys)}")
    if marker == "keys":
        places = ", ".join(f"KEYS[{number}]" for number in range(1, len(keys) + 1))
        lines.append(f"local {', '.join(keys)} = {places}")
    lines += _code(_read("clock"))
    if dialect.shifted:
        lines.append("now = now + ARGV[#ARGV]")
    for part in ("base", *_PARTS[name]):
        lines += _code(_read(part))
    lines += _code(body)
    text = "\n".join(lines).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest(), keys)


@cache
def _read(name: str) -> str:
    return files("aioq_redis").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _code(text: str) -> list[str]:
    """Without comments and indentation, which would travel with every load."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("--")]
