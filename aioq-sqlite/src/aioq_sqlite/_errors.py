"""What went wrong in SQLite, in aioq's words."""

import sqlite3

from aioq.errors import AioqError, BatchRejected, BrokerError, BrokerUnavailable

__all__ = ["translate"]

_PRIMARY = 0xFF
_LOCKED = "another program has locked the database: let it finish, or close it"

_AGAIN = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "the disk is full; nothing was written",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written; look into the system's log",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened; may this user write there?",
    sqlite3.SQLITE_NOMEM: "SQLite ran out of memory",
    sqlite3.SQLITE_PROTOCOL: "the database is being opened by many processes at once",
}
_BROKEN = {
    sqlite3.SQLITE_READONLY: "the database or its directory is read-only; give this user rights",
    sqlite3.SQLITE_PERM: "the database file may not be used by this user; give it the rights",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database; give aioq a file of its own",
}
_DATA = {
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
}


def translate(exc: Exception, where: str) -> Exception:
    """The exception a caller gets for one raised by an operation on the store ``where``.

    Values that SQLite cannot take become ``BatchRejected``; what may go away by itself becomes
    ``BrokerUnavailable``; other errors of SQLite become ``BrokerError``. Anything else is a mistake
    in the program and stays as it is.
    """
    translated = _translate(exc, where)
    if translated is not exc:
        translated.__cause__ = exc
    return translated


def _translate(exc: Exception, where: str) -> Exception:
    if isinstance(exc, AioqError):
        return exc
    if isinstance(exc, OverflowError | UnicodeError):
        return BatchRejected(f"{where}: a value cannot be stored: {exc}")
    if isinstance(exc, OSError):
        return BrokerUnavailable(f"{where}: the file system reports an error: {exc}")
    if not isinstance(exc, sqlite3.Error):
        return exc
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:
        # Raised by the Python module itself, before SQLite was asked: a value of a foreign type.
        if isinstance(exc, sqlite3.DataError) or "bind" in str(exc):
            return BatchRejected(f"{where}: a value cannot be stored: {exc}")
        return BrokerError(f"{where}: {exc}")
    code &= _PRIMARY
    if code in _DATA:
        return BatchRejected(f"{where}: a value cannot be stored: {exc}")
    if code in _AGAIN:
        return BrokerUnavailable(f"{where}: {_AGAIN[code]} ({exc})")
    return BrokerError(f"{where}: {_BROKEN.get(code, 'SQLite reports an error')} ({exc})")
