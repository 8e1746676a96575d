"""The broker that needs no store: for tests, and the reference of what every broker promises."""

from aioq._memory._broker import MemoryBroker

__all__ = ["MemoryBroker"]
