"""Which serializer reads which bytes: the app's own writes, every installed one can read."""

from collections.abc import Iterable
from typing import Any

import msgspec

from aioq._json import JSONSerializer
from aioq._serializer import Serializer
from aioq._wire import Body
from aioq.errors import SerializationError

__all__ = ["Codec"]


class _Call(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A struct, because msgspec reads its types once: those of a tuple at each conversion."""

    args: list[Any]
    kwargs: dict[str, Any]


class Codec:
    """Writes with one serializer and reads by content type.

    Args:
        default: writes new values.
        others: read what other apps or earlier settings wrote; JSON is always among them.
    """

    __slots__ = ("_readers", "content_type", "default", "dumps")

    def __init__(
        self, default: Serializer | None = None, others: Iterable[Serializer] = ()
    ) -> None:
        self.default = default or JSONSerializer()
        self.content_type = self.default.content_type
        self.dumps = self.default.dumps
        self._readers = {s.content_type: s for s in (JSONSerializer(), *others, self.default)}

    def reader(self, content_type: str | None) -> Serializer:
        """The serializer that wrote bytes of this type; None means the app's own.

        Raises:
            SerializationError: it is not installed here.
        """
        if content_type is None:
            return self.default
        reader = self._readers.get(content_type)
        if reader is None:
            known = ", ".join(sorted(self._readers))
            raise SerializationError(
                f"no installed serializer reads {content_type!r} (installed: {known})"
            )
        return reader

    def loads(self, data: bytes, content_type: str | None) -> Any:
        """Raises ``SerializationError``."""
        return self.reader(content_type).loads(data)

    def arguments(self, body: Body) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments in the format's own types.

        Raises:
            SerializationError: the bytes are not a list and a mapping.
        """
        loaded = self.reader(body.content_type).loads(body.arguments)
        try:
            call = msgspec.convert(loaded, _Call)
        except msgspec.ValidationError as exc:
            raise SerializationError(
                "the arguments are not a list and a mapping with text keys"
            ) from exc
        return call.args, call.kwargs
