"""What went wrong in PostgreSQL or on the way to it, in aioq's words."""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Final

import asyncpg

from aioq.errors import AioqError, BatchRejected, BrokerError, BrokerUnavailable, ConfigurationError
from aioq.plugins import DEFAULT_NAMESPACE

__all__ = ["hoping_for_rights", "no_tables", "too_slow", "translate"]


class _Forbidden(BrokerError):
    """This user may not do that."""


_LOGIN: Final = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""Raised while connecting, by a server that does not want us."""

_BUSY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresIOError,
)
"""May go away by itself."""

_DATA: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UntranslatableCharacterError,
)
"""Values that the store cannot take."""

_ABSENT: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)


def translate(exc: Exception, where: str, *, opening: bool = False) -> Exception:
    """The exception a caller gets for one raised by an operation on the store ``where``.

    What may go away by itself becomes ``BrokerUnavailable``, a value that cannot be stored
    ``BatchRejected``, another refusal ``BrokerError``. While a broker is being opened, what only a
    person can change is a ``ConfigurationError``; later the same may be a fail-over in progress.
    Anything that does not come from the store is a mistake in the program and stays as it is.
    """
    translated = _translate(exc, where, opening)
    if translated is not exc:
        translated.__cause__ = exc
    return translated


@contextlib.contextmanager
def hoping_for_rights() -> Generator[None, None, None]:
    """For the calls of a worker, which waits for rights that it lacks, or lost, as for a store."""
    try:
        yield
    except _Forbidden as exc:
        raise BrokerUnavailable(str(exc)) from exc


def no_tables(where: str, schema: str, namespace: str | None) -> ConfigurationError:
    """The tables are missing; ``namespace`` is None when no URL leads to the schema."""
    command = "'aioq migrate APP'"
    if namespace is not None:
        words = "" if namespace == DEFAULT_NAMESPACE else f" --namespace {namespace}"
        command += f" or 'aioq migrate --broker {where}{words}'"
    return ConfigurationError(
        f"{where} has no aioq tables in the schema {schema!r}: create them with {command} (for "
        f"development there is PostgresBroker(..., auto_migrate=True))"
    )


def too_slow(where: str, within: float) -> BrokerUnavailable:
    """A deadline has passed."""
    return BrokerUnavailable(f"{where} gave no answer within {within:g} s")


def _translate(exc: Exception, where: str, opening: bool) -> Exception:
    if isinstance(exc, AioqError):
        return exc
    refusal = ConfigurationError if opening else BrokerUnavailable
    match exc:
        case asyncpg.InvalidPasswordError():
            return refusal(f"{where} refuses the password: {_text(exc)}")
        case asyncpg.InvalidCatalogNameError():
            return refusal(f"{where}: {_text(exc)}; create it, or name another one in the DSN")
        case asyncpg.InvalidAuthorizationSpecificationError():
            return refusal(f"{where} does not let this user in: {_text(exc)}")
        case asyncpg.ReadOnlySQLTransactionError():
            return refusal(
                f"{where} is read-only ({_text(exc)}): is it a standby? Name the primary, or add "
                f"target_session_attrs=read-write to the DSN"
            )
        case asyncpg.InsufficientPrivilegeError():
            kind = ConfigurationError if opening else _Forbidden
            return kind(
                f"{where}: this user may not do that ({_text(exc)}); it needs select, insert, "
                f"update and delete on aioq's tables and usage on their schema"
            )
        case asyncpg.InvalidSQLStatementNameError() | asyncpg.DuplicatePreparedStatementError():
            return BrokerUnavailable(
                f"{where} has lost a prepared statement ({_text(exc)}): behind a pooler pass "
                f"statement_cache_size=0"
            )
        case _ if isinstance(exc, _ABSENT):
            return BrokerError(f"{where}: {_text(exc)}; has 'aioq migrate' been run on it?")
        case asyncpg.ClientConfigurationError():
            return ConfigurationError(f"{where}: {exc}")
        case _ if isinstance(exc, _BUSY):
            return BrokerUnavailable(f"{where}: {_text(exc)}")
        case _ if isinstance(exc, _DATA):
            return BatchRejected(f"{where}: a value cannot be stored: {_text(exc)}")
        case asyncpg.PostgresError():
            return BrokerError(f"{where}: {_text(exc)}")
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return BrokerUnavailable(f"{where}: the connection is unusable ({exc})")
        case asyncio.TimeoutError():
            return BrokerUnavailable(f"{where} gave no answer in time")
        case OverflowError() | UnicodeError():
            return BatchRejected(f"{where}: a value cannot be stored: {exc}")
        case OSError():
            return BrokerUnavailable(f"{where} cannot be reached: {str(exc) or type(exc).__name__}")
        case _:
            return exc


def _text(exc: Exception) -> str:
    return str(exc).partition("\n")[0]
