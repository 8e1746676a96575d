"""Is this server fit to keep jobs? Asked once, when a broker opens."""

import logging
import re
from typing import NamedTuple

from aioq.errors import ConfigurationError

__all__ = ["Facts", "check"]

_log = logging.getLogger("aioq.redis")
_LEAST = (6, 2)
_WAITAOF = (7, 2)


class Facts(NamedTuple):
    """What a server says of itself."""

    version: tuple[int, int]
    clustered: bool
    policy: str
    append_only: bool

    @classmethod
    def read(cls, info: str) -> "Facts":
        """From the answer of ``INFO``."""
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        number = re.match(r"(\d+)\.(\d+)", fields.get("redis_version", ""))
        return cls(
            version=(int(number[1]), int(number[2])) if number else (0, 0),
            clustered=fields.get("cluster_enabled") == "1",
            policy=fields.get("maxmemory_policy", "noeviction"),
            append_only=fields.get("aof_enabled", "1") == "1",
        )


def check(
    facts: Facts, where: str, *, allow_eviction: bool, durability: str, fsync: str | None
) -> None:
    """Refuse a server that would lose jobs, and warn of one that might.

    Args:
        facts: what the server says of itself.
        where: names the store.
        allow_eviction: the broker's option.
        durability: the broker's option.
        fsync: the server's ``appendfsync``; None when it was not asked or does not tell.

    Raises:
        ConfigurationError: it is too old, evicts keys, or cannot give the durability asked for.
    """
    if facts.version < _LEAST:
        raise ConfigurationError(
            f"{where} runs Redis {facts.version[0]}.{facts.version[1]}: aioq needs Redis 6.2 or "
            f"newer, or Valkey"
        )
    if durability == "fsync" and (lacks := _no_fsync(facts, fsync)):
        raise ConfigurationError(
            f"{where}: durability='fsync' waits until the append-only file is on disk, but "
            f"{lacks}; change that, or use durability='server'"
        )
    if facts.policy != "noeviction":
        if not allow_eviction:
            raise ConfigurationError(
                f"{where} has maxmemory-policy {facts.policy}: when it is full it deletes keys, "
                f"and jobs with them. Set 'maxmemory-policy noeviction', or give "
                f"RedisBroker(allow_eviction=True) to accept the loss"
            )
        _log.warning("%s may evict jobs: its maxmemory-policy is %s", where, facts.policy)
    if not facts.append_only:
        _log.warning(
            "%s keeps no append-only file: a restart of Redis loses the jobs since its last "
            "snapshot, or all of them; set 'appendonly yes'",
            where,
        )


def _no_fsync(facts: Facts, fsync: str | None) -> str | None:
    """Why this server would never confirm that its file is on disk."""
    if not facts.append_only:
        return "the server keeps no such file ('appendonly no')"
    if facts.version < _WAITAOF:
        number = ".".join(map(str, facts.version))
        return f"Redis {number} cannot tell: it takes Redis 7.2 or newer, or Valkey"
    if fsync == "no":
        return "the server leaves that to the kernel ('appendfsync no')"
    return None
