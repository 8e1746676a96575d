"""One value against one annotation: which annotations can be stored, and what survives the way."""

import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

import msgspec
from msgspec import inspect as shapes

from aioq._models import Models, holds_models
from aioq._serializer import Serializer
from aioq.errors import ConfigurationError, SerializationError

__all__ = ["Converter", "resolve", "survives"]

PLAIN = (str, int, bool, float, bytes, type(None))
_UNRESOLVED = (str, typing.ForwardRef)


class Converter:
    """Turns loaded values into what one annotation asks for.

    Args:
        hint: the resolved annotation; ``Any`` leaves values as the serializer loads them.
        where: names it in messages, ``"parameter 'x' of task 'm.f'"``.

    Raises:
        ConfigurationError: values of this annotation cannot be told apart, or cannot be stored.
    """

    __slots__ = ("exact", "hint", "models")

    def __init__(self, hint: Any, where: str) -> None:
        self.hint = Any if hint is object else hint
        self.exact = self.hint is Any
        """Without an annotation only values that need none are taken: text, numbers, lists, ..."""
        self.models: Models | None = None
        """Where pydantic models occur: writes values in a form that any serializer knows."""
        if self.exact or hint in PLAIN:
            return
        if holds_models(hint):
            self.models = Models(hint, where)
        else:
            _check_storable(hint, where)

    def __call__(self, value: Any, reader: Serializer) -> Any:
        """Raises ``SerializationError`` when the value does not fit."""
        hint = self.hint
        if type(value) is hint or hint is Any:
            return value
        if self.models is not None:
            return self.models.load(value)
        return reader.convert(value, hint)

    def plain(self, value: Any) -> Any:
        """The value as it is handed to a serializer.

        Raises:
            SerializationError: a model in it has no form in JSON.
        """
        return value if self.models is None else self.models.dump(value)


def resolve(annotation: Any, name: str, fn: Callable[..., Any], where: str) -> Any:
    """The annotation of one parameter as an object; ``Any`` where there is none.

    One at a time, because a name imported for type checkers only would make all of them fail.
    """
    if annotation is None:
        return type(None)
    if not isinstance(annotation, _UNRESOLVED) and not _has_forward_reference(annotation):
        return annotation
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        hints = typing.get_type_hints(holder, getattr(fn, "__globals__", {}), include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as exc:
        raise ConfigurationError(
            f"the annotation {annotation!r} of {where} cannot be resolved ({exc}): define or "
            f"import it at module level, outside TYPE_CHECKING"
        ) from exc
    return hints[name]


def _has_forward_reference(annotation: Any) -> bool:
    return any(
        isinstance(part, _UNRESOLVED) or _has_forward_reference(part)
        for part in typing.get_args(annotation)
        if typing.get_origin(annotation) is not typing.Literal
    )


def _check_storable(hint: Any, where: str) -> None:
    try:
        shape = shapes.type_info(hint)
    except (TypeError, NotImplementedError) as exc:
        raise ConfigurationError(
            f"the annotation {hint!r} of {where} cannot be stored: {exc}. Use one type, or "
            f"msgspec.Struct classes with a tag, so that a value tells which one it is"
        ) from exc
    for part in _parts(shape, set()):
        if isinstance(part, shapes.CustomType):
            raise ConfigurationError(
                f"{part.cls.__name__!r} in the annotation of {where} cannot be stored: pass a "
                f"str, or a dataclass, TypedDict or msgspec.Struct with what the task needs"
            )


def _parts(shape: Any, seen: set[int]) -> Iterator[Any]:
    """The shape and everything inside it, each once."""
    if _is_row(shape):
        for part in shape:
            yield from _parts(part, seen)
    elif isinstance(shape, shapes.Type | shapes.Field) and id(shape) not in seen:
        seen.add(id(shape))
        yield shape
        for name in type(shape).__struct_fields__:
            yield from _parts(getattr(shape, name), seen)


def survives(sent: Any, arrived: Any, *, exact: bool) -> bool:
    """Whether what comes out on the other side is what was put in.

    Lists and tuples may stand for each other unless ``exact``: a ``Sequence`` arrives as a list.
    Catches what a format changes in silence: NaN to null, whole-number keys to text, the fields
    of a subclass dropped.
    """
    if sent is arrived:
        return not (isinstance(sent, float) and math.isnan(sent))
    if exact and type(sent) is not type(arrived):
        return False
    if _is_row(sent) and _is_row(arrived):
        return len(sent) == len(arrived) and all(
            survives(item, other, exact=exact) for item, other in zip(sent, arrived, strict=True)
        )
    if _is_mapping(sent) and _is_mapping(arrived):
        return sent.keys() == arrived.keys() and all(
            survives(value, arrived[key], exact=exact) for key, value in sent.items()
        )
    if isinstance(sent, int | float) and isinstance(arrived, int | float):
        return sent == arrived and isinstance(sent, bool) is isinstance(arrived, bool)
    if type(sent) is type(arrived) and _compares_by_identity(type(sent)):
        return bool(msgspec.to_builtins(sent) == msgspec.to_builtins(arrived))
    return bool(sent == arrived)


def _compares_by_identity(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _is_row(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_mapping(value: Any) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def fits(value: Any, converter: Converter, reader: Serializer, data: bytes) -> None:
    """Raises ``SerializationError`` unless ``data`` gives ``value`` back."""
    arrived = converter(reader.loads(data), reader)
    try:
        same = survives(value, arrived, exact=False)
    except RecursionError:
        raise SerializationError(f"a {type(value).__name__} is nested too deeply") from None
    if not same:
        raise SerializationError(
            f"a {type(value).__name__} would come back as a {type(arrived).__name__} or with "
            f"parts changed; annotate it with its exact type"
        )
