"""The hook a serializer fills: plain values to bytes and back."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec

from aioq.errors import SerializationError

__all__ = ["Serializer"]


class Serializer(ABC):
    """Turns arguments and results into bytes.

    Both sides of a queue must know the serializer that wrote a job: its ``content_type`` travels
    with the bytes and selects it again.
    """

    content_type: ClassVar[str]
    """Names the format, ``"application/json"``; unique among the installed serializers."""

    @abstractmethod
    def dumps(self, value: Any) -> bytes:
        """Encode ``value``.

        Raises:
            SerializationError: the value, or something in it, has no form in this format.
        """

    @abstractmethod
    def loads(self, data: bytes) -> Any:
        """Decode into the format's own types (numbers, text, lists, mappings, ...).

        Must be safe on hostile bytes: never import, never evaluate.

        Raises:
            SerializationError: the bytes are not of this format.
        """

    def convert(self, value: Any, type_: Any) -> Any:
        """Turn a loaded value, or a part of one, into what an annotation asks for.

        Raises:
            SerializationError: it does not fit.
        """
        try:
            return msgspec.convert(value, type_)
        except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as exc:
            raise SerializationError(str(exc)) from exc
