"""Plugin code that must not type-check: each marked line (see check_refused.py)."""

from typing import Any

from aioq.backends import MemoryBroker
from aioq.plugins import (
    Added,
    BaseBroker,
    BrokerSpec,
    Capabilities,
    NewJob,
    Serializer,
    SerializerSpec,
    Settlement,
)

BrokerSpec(name="B", schemes="small", load=lambda: MemoryBroker)  # E: arg-type
BrokerSpec(name="B", schemes=("small",), load=MemoryBroker)  # E: arg-type
BrokerSpec("B", ("small",), lambda: MemoryBroker)  # E: call-arg
SerializerSpec(name="s", load=lambda: MemoryBroker)  # E: arg-type, return-value
Added("stored", 0)  # E: arg-type
Capabilities(durabel=True)  # E: call-arg
Settlement(b"token", "done")  # E: arg-type
NewJob("id", "queue", "task", {}, b"")  # E: arg-type


class Incomplete(BaseBroker):
    @property
    def url(self) -> str:
        return "x://"


Incomplete()  # E: abstract


class Text(Serializer):
    content_type = "text/plain"

    def dumps(self, value: Any) -> str:  # E: override
        return str(value)

    def loads(self, data: bytes) -> Any:
        return data
