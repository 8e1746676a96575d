"""Core's own parts, registered through the same hooks as everybody else's."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aioq.plugins._hookspecs import BrokerSpec, SerializerSpec, hookimpl

if TYPE_CHECKING:
    from aioq._app import Aarq
    from aioq._broker import BaseBroker
    from aioq._serializer import Serializer
    from aioq.middleware import Middleware


def _memory() -> "type[BaseBroker]":
    from aioq._memory import MemoryBroker

    return MemoryBroker


def _json() -> "type[Serializer]":
    from aioq._json import JSONSerializer

    return JSONSerializer


@hookimpl
def aioq_brokers() -> Iterable[BrokerSpec]:
    return [BrokerSpec(name="MemoryBroker", schemes=("memory",), load=_memory)]


@hookimpl
def aioq_serializers() -> Iterable[SerializerSpec]:
    return [SerializerSpec(name="json", load=_json)]


@hookimpl
def aioq_middlewares(app: "Aarq") -> "Iterable[Middleware]":
    from aioq.middleware import (
        LoggingMiddleware,
        ResultMiddleware,
        RetryMiddleware,
        TimeoutMiddleware,
    )

    return [LoggingMiddleware(), ResultMiddleware(), RetryMiddleware(), TimeoutMiddleware()]
