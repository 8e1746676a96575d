"""SQLite broker for aioq: durable, for several processes on one file, without a server."""

from typing import TYPE_CHECKING, Any

__all__ = ["SQLiteBroker"]

if TYPE_CHECKING:
    from aioq_sqlite._broker import SQLiteBroker as SQLiteBroker
else:

    def __getattr__(name: str) -> Any:
        # The entry point's module lies in this package: finding the plugin must not load sqlite3.
        if name != "SQLiteBroker":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from aioq_sqlite._broker import SQLiteBroker

        globals()[name] = SQLiteBroker
        return SQLiteBroker
