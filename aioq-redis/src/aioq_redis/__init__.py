"""Redis broker for aioq: Redis 6.2 or newer, Valkey, one server or a cluster."""

from typing import TYPE_CHECKING, Any

__all__ = ["RedisBroker"]

if TYPE_CHECKING:
    from aioq_redis._broker import RedisBroker as RedisBroker
else:

    def __getattr__(name: str) -> Any:
        # The entry point's module lies in this package: finding the plugin must not load redis.
        if name != "RedisBroker":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from aioq_redis._broker import RedisBroker

        globals()[name] = RedisBroker
        return RedisBroker
