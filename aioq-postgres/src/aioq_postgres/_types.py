"""Array types of PostgreSQL, told to asyncpg so that it need not ask the server.

asyncpg asks for each type it does not know, which takes a second or more on a loaded server. And
it switches ``jit`` off and on again around the question, in statements of their own: behind a
pooler these reach different sessions, and leave one of them changed.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import asyncpg

__all__ = ["Connection", "KnowingConnection"]

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection

_ELEMENTS: Final = {
    1000: ("_bool", 16),
    1001: ("_bytea", 17),
    1005: ("_int2", 21),
    1007: ("_int4", 23),
    1016: ("_int8", 20),
    2951: ("_uuid", 2950),
}
"""Name and element of each array type; built-in types have the same numbers on every server."""


def _row(oid: int) -> dict[str, Any]:
    """What the server would answer; None in every other column."""
    name, element = _ELEMENTS[oid]
    row: dict[str, Any] = defaultdict(lambda: None)
    row |= {"oid": oid, "ns": "pg_catalog", "name": name, "kind": b"b", "elemdelim": ","}
    row |= {"elemtype": element, "elemtype_name": name[1:]}
    return row


class _Unasked(NamedTuple):
    """Stands for the statement that asked: it took the place of no other."""

    name: str = "none"


class KnowingConnection(Connection):
    """A connection that knows the array types of aioq's statements."""

    async def _introspect_types(self, typeoids: Collection[int], timeout: float | None) -> Any:
        """Private to asyncpg: where it is not called (any more), asyncpg asks as it always did."""
        if _ELEMENTS.keys() >= set(typeoids):
            return [_row(oid) for oid in typeoids], _Unasked()
        return await super()._introspect_types(typeoids, timeout)  # type: ignore[misc]
