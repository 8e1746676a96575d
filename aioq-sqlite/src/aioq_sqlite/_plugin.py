"""Announces the SQLite broker to the core, without importing sqlite3."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aioq.plugins import BrokerSpec, hookimpl

if TYPE_CHECKING:
    from aioq.plugins import BaseBroker


def _load() -> "type[BaseBroker]":
    from aioq_sqlite import SQLiteBroker

    return SQLiteBroker


@hookimpl
def aioq_brokers() -> Iterable[BrokerSpec]:
    return [BrokerSpec(name="SQLiteBroker", schemes=("sqlite",), load=_load)]
