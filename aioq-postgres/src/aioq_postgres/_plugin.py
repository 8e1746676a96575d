"""Announces the PostgreSQL broker and its command to the core, without importing asyncpg."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aioq.plugins import BrokerSpec, hookimpl

if TYPE_CHECKING:
    import click

    from aioq.plugins import BaseBroker


def _load() -> "type[BaseBroker]":
    from aioq_postgres import PostgresBroker

    return PostgresBroker


@hookimpl
def aioq_brokers() -> Iterable[BrokerSpec]:
    return [BrokerSpec(name="PostgresBroker", schemes=("postgresql", "postgres"), load=_load)]


@hookimpl
def aioq_commands() -> "Iterable[click.Command]":
    from aioq_postgres._command import migrate

    return [migrate]
