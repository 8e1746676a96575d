"""Announces the broker without importing it."""

from collections.abc import Iterable

from aioq.plugins import BaseBroker, BrokerSpec, hookimpl


def _load() -> type[BaseBroker]:
    from aioq_filebroker._broker import FileBroker

    return FileBroker


@hookimpl
def aioq_brokers() -> Iterable[BrokerSpec]:
    return [BrokerSpec(name="FileBroker", schemes=("file",), load=_load)]
