"""Is this server fit to keep jobs? Asked once, when a broker opens."""

import logging
import re
from typing import NamedTuple

from aioq.errors import ConfigurationError

__all__ = ["Facts", "check"]

_log = logging.getLogger("aioq.redis")
_LEAST = (6, 2)


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
            clustered=fields.get("redis_mode") == "cluster",
            policy=fields.get("maxmemory_policy", "noeviction"),
            append_only=fields.get("aof_enabled", "1") == "1",
        )


def check(facts: Facts, where: str, *, allow_eviction: bool) -> None:
    """Refuse a server that would lose jobs, and warn of one that might.

    Raises:
        ConfigurationError: it is too old, or evicts keys.
    """
    if facts.version < _LEAST:
        raise ConfigurationError(
            f"{where} runs Redis {facts.version[0]}.{facts.version[1]}: aioq needs Redis 6.2 or "
            f"newer, or Valkey"
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
