"""PostgreSQL broker for aioq: durable, with enqueues inside the caller's own transaction."""

from typing import TYPE_CHECKING, Any

__all__ = ["PostgresBroker"]

if TYPE_CHECKING:
    from aioq_postgres._broker import PostgresBroker as PostgresBroker
else:

    def __getattr__(name: str) -> Any:
        # The entry point's module lies in this package: finding the plugin must not load asyncpg.
        if name != "PostgresBroker":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from aioq_postgres._broker import PostgresBroker

        globals()[name] = PostgresBroker
        return PostgresBroker
