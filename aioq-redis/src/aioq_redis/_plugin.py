"""Announces the Redis broker to the core, without importing redis."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aioq.plugins import BrokerSpec, hookimpl

if TYPE_CHECKING:
    from aioq.plugins import BaseBroker


def _load() -> "type[BaseBroker]":
    from aioq_redis import RedisBroker

    return RedisBroker


@hookimpl
def aioq_brokers() -> Iterable[BrokerSpec]:
    return [BrokerSpec(name="RedisBroker", schemes=("redis", "rediss", "unix"), load=_load)]
