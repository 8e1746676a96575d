"""pydantic models as arguments and results, for programs that have pydantic; aioq needs it not.

An annotation in which a model occurs is pydantic's as a whole: what it says of containers, unions
and the classes around the model is what goes, and aioq compares what arrives with what was sent.
"""

import sys
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from aioq.errors import ConfigurationError, SerializationError

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["Models", "holds_models", "is_model", "plain"]

OLDEST = (2, 11)
"""Before it, data could not be read by the names of fields alone."""
ERRORS_NAMED = 3
_MARKS_OF_FIELDS = ("__dataclass_fields__", "__struct_fields__", "__required_keys__", "_fields")
"""Of dataclasses, ``msgspec.Struct``, every kind of TypedDict, and named tuples."""


def is_model(kind: Any) -> bool:
    """Whether this is a class of pydantic's: a model, or one of its dataclasses."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and isinstance(kind, type)
        and (issubclass(kind, pydantic.BaseModel) or "__pydantic_validator__" in vars(kind))
    )


def holds_models(hint: Any) -> bool:
    """Whether a model occurs in this resolved annotation, at any depth."""
    return "pydantic" in sys.modules and _occurs(hint, set())


def _occurs(hint: Any, seen: set[int]) -> bool:
    if id(hint) in seen:
        return False
    seen.add(id(hint))
    if is_model(hint):
        return True
    parts = [*typing.get_args(hint), typing.get_origin(hint)]
    if any(hasattr(hint, mark) for mark in _MARKS_OF_FIELDS):
        parts += _hints_of(hint)
    if hasattr(hint, "__value__"):  # ``type X = ...``
        parts.append(hint.__value__)
    return any(_occurs(part, seen) for part in parts if part is not None)


def _hints_of(kind: Any) -> list[Any]:
    try:
        return list(typing.get_type_hints(kind, include_extras=True).values())
    except (NameError, TypeError):
        return []  # whoever converts it will say what cannot be resolved


class Models:
    """Values of one annotation, to plain data and back.

    Args:
        hint: the resolved annotation.
        where: names it in messages.

    Raises:
        ConfigurationError: pydantic cannot handle all of it, or is too old.
    """

    __slots__ = ("_adapter",)

    def __init__(self, hint: Any, where: str) -> None:
        import pydantic
        from pydantic.errors import PydanticUserError

        installed = tuple(int(part) for part in pydantic.VERSION.split(".")[:2])
        if installed < OLDEST:
            raise ConfigurationError(
                f"pydantic {pydantic.VERSION} is too old for the annotation of {where}: aioq needs "
                f"{'.'.join(map(str, OLDEST))} or newer"
            )
        try:
            self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(hint)
            if not self._adapter.pydantic_complete:
                self._adapter.rebuild()
        except (PydanticUserError, NameError) as exc:
            raise ConfigurationError(
                f"the annotation {hint!r} of {where} cannot be stored: beside a pydantic model "
                f"everything in it must be known to pydantic ({_first_line(exc)})"
            ) from exc

    def dump(self, value: Any) -> Any:
        """The value as JSON's own types, from which ``load`` makes it again.

        Raises:
            SerializationError: it has no form in JSON.
        """
        try:
            data = self._adapter.dump_json(value, by_alias=False, round_trip=True, warnings=False)
            return msgspec.json.decode(data)
        except (ValueError, TypeError, RecursionError) as exc:
            raise SerializationError(_first_line(exc)) from exc

    def load(self, value: Any) -> Any:
        """Validate what ``dump`` made.

        Raises:
            SerializationError: it does not fit.
        """
        from pydantic import ValidationError

        try:
            data = msgspec.json.encode(value)
            return self._adapter.validate_json(data, by_alias=False, by_name=True)
        except ValidationError as exc:
            raise SerializationError(_sentence(exc)) from exc
        except (TypeError, ValueError, RecursionError) as exc:
            raise SerializationError(_first_line(exc)) from exc


def plain(value: object) -> Any:
    """A model as data that can be shown; anything else as its ``repr``."""
    if not is_model(type(value)):
        return repr(value)
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(type(value))
    return adapter.dump_python(value, mode="json", warnings=False)


def _sentence(error: "ValidationError") -> str:
    """What is wrong where; never the values, which may be secrets."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    named = [
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
        for one in found[:ERRORS_NAMED]
    ]
    more = len(found) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
