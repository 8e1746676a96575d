"""Writes arguments and results as MessagePack: smaller than JSON, and bytes stay bytes."""

from collections.abc import Iterable
from typing import Any

import msgspec

from aioq.errors import SerializationError
from aioq.plugins import Serializer, SerializerSpec, hookimpl

__all__ = ["MsgpackSerializer"]


class MsgpackSerializer(Serializer):
    """`Aarq(serializer="msgpack")`."""

    content_type = "application/msgpack"

    def dumps(self, value: Any) -> bytes:
        try:
            return msgspec.msgpack.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise SerializationError(str(exc)) from exc

    def loads(self, data: bytes) -> Any:
        try:
            return msgspec.msgpack.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            raise SerializationError(str(exc)) from exc


@hookimpl
def aioq_serializers() -> Iterable[SerializerSpec]:
    return [SerializerSpec(name="msgpack", load=lambda: MsgpackSerializer)]
