"""The default serializer: JSON by msgspec."""

from typing import Any, ClassVar

import msgspec

from aioq._serializer import Serializer
from aioq.errors import SerializationError

__all__ = ["JSONSerializer"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class JSONSerializer(Serializer):
    """JSON (RFC 8259), with the types msgspec writes besides: dataclasses, datetime, UUID, Decimal,
    Enum, TypedDict, ``msgspec.Struct``, bytes as base64."""

    content_type: ClassVar[str] = "application/json"

    def dumps(self, value: Any) -> bytes:
        try:
            return _encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            raise SerializationError(str(exc) or type(exc).__name__) from exc

    def loads(self, data: bytes) -> Any:
        try:
            return _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise SerializationError(str(exc)) from exc

    def convert(self, value: Any, type_: Any) -> Any:
        try:
            return msgspec.convert(value, type_, str_keys=True)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as exc:
            raise SerializationError(str(exc)) from exc
