"""The tables: made in a new file, checked in an old one."""

import sqlite3
from importlib import resources

from aioq.errors import ConfigurationError

__all__ = ["VERSION", "prepare"]

VERSION = 1
APPLICATION_ID = 0x61696F71
"""``aioq`` in ASCII, in the header of the file: whose database this is."""


def prepare(con: sqlite3.Connection, where: str) -> None:
    """Create the tables in an empty database; called under the lock between processes.

    Raises:
        ConfigurationError: the file belongs to another program or to a newer aioq.
    """
    found = _pragma(con, "user_version")
    if _pragma(con, "application_id") == APPLICATION_ID:
        if found > VERSION:
            raise ConfigurationError(
                f"{where} was written by a newer aioq (schema {found}, this one knows {VERSION}): "
                f"upgrade aioq-sqlite"
            )
        return
    if found or con.execute("select count(*) from sqlite_master").fetchone()[0]:
        raise ConfigurationError(
            f"{where} is the database of another program: give aioq a file of its own"
        )
    script = resources.files("aioq_sqlite").joinpath("sql/schema_1.sql").read_text("utf-8")
    con.executescript(
        f"begin immediate; {script}; pragma application_id = {APPLICATION_ID}; "
        f"pragma user_version = {VERSION}; commit;"
    )


def _pragma(con: sqlite3.Connection, name: str) -> int:
    return int(con.execute(f"pragma {name}").fetchone()[0])
