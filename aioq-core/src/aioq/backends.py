"""The brokers by name. Each is imported, with its driver, when its name is first used."""

from typing import TYPE_CHECKING

from aioq._broker import BaseBroker as BaseBroker
from aioq._memory import MemoryBroker as MemoryBroker

if TYPE_CHECKING:
    from aioq_postgres import PostgresBroker as PostgresBroker
    from aioq_redis import RedisBroker as RedisBroker
    from aioq_sqlite import SQLiteBroker as SQLiteBroker

    __all__ = ["BaseBroker", "MemoryBroker", "PostgresBroker", "RedisBroker", "SQLiteBroker"]
else:
    __all__ = ["BaseBroker", "MemoryBroker"]

    _SHIPPED_IN = {
        "PostgresBroker": "aioq-postgres",
        "RedisBroker": "aioq-redis",
        "SQLiteBroker": "aioq-sqlite",
    }

    def __getattr__(name: str) -> object:
        from aioq.plugins._registry import registry

        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = registry()
        spec = found.brokers().get(name)
        if spec is not None:
            broker = globals()[name] = found.load_broker(spec)
            return broker
        if name in _SHIPPED_IN:
            # an ImportError, because "from ... import" drops the text of an AttributeError
            shipped = _SHIPPED_IN[name]
            raise ImportError(f"{name} ships in {shipped}: pip install {shipped}", name=shipped)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from aioq.plugins._registry import registry

        return sorted({*__all__, *registry().brokers()})
