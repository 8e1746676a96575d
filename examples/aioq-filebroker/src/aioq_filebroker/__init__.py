"""A broker for aioq that keeps its jobs in one file."""

from aioq.plugins import BrokerSpec, hookimpl
from aioq_filebroker.broker import FileBroker

__all__ = ["FileBroker"]


@hookimpl
def aioq_brokers() -> list[BrokerSpec]:
    return [BrokerSpec(name="FileBroker", schemes=("file",), load=lambda: FileBroker)]
