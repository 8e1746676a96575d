"""The parameters of a task: binding a call, and its way to bytes and back."""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from aioq._codec import Codec
from aioq._context import may_be_context
from aioq._models import is_model
from aioq._options import JobOptions
from aioq._serializer import Serializer
from aioq._values import Converter, fits, resolve, survives
from aioq._wire import Body, preview
from aioq.errors import ConfigurationError, InvalidArguments, SerializationError

__all__ = ["Signature"]

_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_AS_IT_IS: dict[str, Any] = {}
"""How to read a signature whose annotations cannot all be resolved yet."""
if sys.version_info >= (3, 14):
    from annotationlib import Format

    _AS_IT_IS["annotation_format"] = Format.FORWARDREF


class Signature:
    """What a task's function takes after ``ctx``, and what it returns.

    Annotations are resolved on first use: they may name things that are defined later.

    Raises:
        ConfigurationError: the function cannot take ``ctx`` as its first argument.
    """

    def __init__(self, fn: Callable[..., Any], task_name: str) -> None:
        self._fn = inspect.unwrap(fn)
        self._task = task_name
        signature = inspect.signature(self._fn, **_AS_IT_IS)
        parameters = list(signature.parameters.values())
        if inspect.isgeneratorfunction(self._fn) or inspect.isasyncgenfunction(self._fn):
            raise ConfigurationError(
                f"task {task_name!r} is a generator: a task returns its result, it yields nothing"
            )
        if not parameters or parameters[0].kind not in _POSITIONAL:
            raise ConfigurationError(
                f"task {task_name!r} must take ctx as its first argument: "
                f"async def {getattr(fn, '__name__', 'task')}(ctx, ...)"
            )
        if parameters[0].name in ("self", "cls"):
            raise ConfigurationError(
                f"task {task_name!r} takes {parameters[0].name!r}: tasks are plain functions, "
                f"not methods"
            )
        self._ctx = parameters[0]
        self._check_ctx()
        self._signature = signature.replace(parameters=parameters[1:])
        self._parameters = self._signature.parameters
        positional = [p for p in self._parameters.values() if p.kind in _POSITIONAL]
        self._positional = [p.name for p in positional]
        self._most = len(positional)
        required = [p for p in positional if p.default is p.empty]
        only_positional = len(positional) == len(self._parameters)
        self._least = len(required) if only_positional else self._most + 1
        self._variadic = {p.kind: p.name for p in self._parameters.values()}
        self._by_keyword = {p.name for p in self._parameters.values() if p.kind in _KEYWORD}
        self._converters: dict[str, Converter] = {}
        self._has_models: bool | None = None
        self._result: Converter | None = None

    def _check_ctx(self) -> None:
        ctx = self._ctx
        if ctx.name == "ctx" or ctx.annotation is ctx.empty:
            return
        try:
            hint = resolve(ctx.annotation, ctx.name, self._fn, f"the ctx of task {self._task!r}")
        except ConfigurationError:
            return  # not defined yet, or known to type checkers only
        if not may_be_context(hint):
            raise ConfigurationError(
                f"task {self._task!r} must take ctx as its first argument, not {ctx.name}: "
                f"{_readable(hint)}"
            )

    # -- client -----------------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises ``InvalidArguments`` unless the function can be called like this."""
        if not kwargs and self._least <= len(args) <= self._most:
            return
        if self._ctx.name in kwargs and self._ctx.kind is not _POSITIONAL[0]:
            raise self._misfit(f"{self._ctx.name!r} is given by the worker", kwargs)
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise self._misfit(exc, kwargs) from None

    def _misfit(self, reason: object, kwargs: dict[str, Any]) -> InvalidArguments:
        """What is wrong with a call, and what may have been meant."""
        message = f"{self._task}: {reason}; it takes {self._signature}"
        if inspect.Parameter.VAR_KEYWORD not in self._variadic:
            unknown = [name for name in kwargs if name not in self._by_keyword]
            options = [f"{name}=..." for name in unknown if name in JobOptions.__annotations__]
            if options:
                message += f"; options go before: .options({', '.join(options)}).enqueue(...)"
        if self._ctx.name != "ctx" and self._ctx.annotation is self._ctx.empty:
            message += f"; its first parameter, {self._ctx.name!r}, gets ctx"
        return InvalidArguments(message)

    def takes(self, name: str) -> bool:
        """Whether it has a parameter of this name."""
        return name in self._parameters

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """What each parameter gets in this call, defaults included.

        Raises:
            InvalidArguments: the function cannot be called like this.
        """
        self.bind(args, kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any], codec: Codec) -> bytes:
        """The arguments as bytes that are known to come back as they are.

        Raises:
            SerializationError: one has no form in the serializer's format; it is named.
            InvalidArguments: one does not fit its annotation, or would come back changed.
        """
        try:
            plain = (args, kwargs) if self._has_models is False else self._plain(args, kwargs)
            data = codec.dumps(plain)
        except SerializationError as exc:
            raise self._blame(args, kwargs, codec, exc) from exc
        reader = codec.default
        sent_args, sent_kwargs = reader.loads(data)
        for (name, sent), loaded in zip(
            self._named(args, kwargs),
            [*sent_args, *(sent_kwargs[key] for key in kwargs)],
            strict=True,
        ):
            converter = self._converter(name)
            try:
                arrived = converter(loaded, reader)
            except SerializationError as exc:
                raise InvalidArguments(
                    f"{self._task}: argument {name!r} is {preview(sent)}, which does not fit its "
                    f"annotation {_readable(converter.hint)}: {exc}"
                ) from exc
            try:
                same = survives(sent, arrived, exact=converter.exact)
            except RecursionError:
                raise SerializationError(
                    f"{self._task}: argument {name!r} is nested too deeply"
                ) from None
            if not same:
                raise self._changed(name, sent, arrived, converter)
        return data

    def _plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments as the serializer gets them."""
        if not self._takes_models():
            return args, kwargs
        plain = [self._converter(name).plain(value) for name, value in self._named(args, kwargs)]
        return plain[: len(args)], dict(zip(kwargs, plain[len(args) :], strict=True))

    def _takes_models(self) -> bool:
        """Whether a parameter may hold pydantic models."""
        if self._has_models is None:
            try:
                hints = [self._converter(name) for name in self._parameters]
            except ConfigurationError:
                return True  # it is told when a value for that parameter is passed
            self._has_models = any(converter.models is not None for converter in hints)
        return self._has_models

    def _blame(
        self, args: Any, kwargs: Any, codec: Codec, error: SerializationError
    ) -> SerializationError:
        for name, value in self._named(args, kwargs):
            converter = self._converter(name)
            try:
                codec.dumps(converter.plain(value))
            except SerializationError as exc:
                return SerializationError(
                    f"{self._task}: argument {name!r} cannot be serialised as "
                    f"{codec.content_type}: {exc}{_remedy(value, converter, 'parameter')}"
                )
        return SerializationError(f"{self._task}: the arguments cannot be serialised: {error}")

    def _changed(
        self, name: str, sent: Any, arrived: Any, converter: Converter
    ) -> InvalidArguments:
        what = f"{self._task}: argument {name!r} is {preview(sent)}"
        if converter.exact:
            return InvalidArguments(
                f"{what}, but would arrive as {preview(arrived)}: annotate the parameter with its "
                f"type, or pass text, numbers, lists and mappings with text keys"
            )
        return InvalidArguments(
            f"{what}, which does not fit its annotation {_readable(converter.hint)}: it would "
            f"arrive as {preview(arrived)}"
        )

    # -- worker -----------------------------------------------------------------------------------

    def unpack(self, body: Body, codec: Codec) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, converted by their annotations.

        Raises:
            SerializationError: the bytes cannot be read.
            InvalidArguments: they do not fit the function as it is now.
        """
        args, kwargs = codec.arguments(body)
        self.bind(tuple(args), kwargs)
        reader = codec.reader(body.content_type)
        positional, extra = self._positional, len(args) - self._most
        names = positional[: len(args)]
        if extra > 0:
            names = names + [self._variadic[inspect.Parameter.VAR_POSITIONAL]] * extra
        for index, name in enumerate(names):
            args[index] = self._convert(name, args[index], reader)
        for key, value in kwargs.items():
            kwargs[key] = self._convert(self._parameter_of(key), value, reader)
        return args, kwargs

    def _convert(self, name: str, value: Any, reader: Serializer) -> Any:
        try:
            return (self._converters.get(name) or self._converter(name))(value, reader)
        except SerializationError as exc:
            raise InvalidArguments(
                f"{self._task}: argument {name!r} does not fit its annotation: {exc}"
            ) from exc

    def pack_result(self, value: Any, codec: Codec) -> bytes:
        """Raises ``SerializationError`` when the result would not come back as it is."""
        try:
            data = codec.dumps(self.returns.plain(value))
            fits(value, self.returns, codec.default, data)
        except SerializationError as exc:
            raise SerializationError(
                f"{self._task}: the result cannot be saved as {codec.content_type}: {exc}"
                f"{_remedy(value, self.returns, 'result')}"
            ) from exc
        return data

    def unpack_result(self, data: bytes, content_type: str | None, codec: Codec) -> Any:
        """Raises ``SerializationError`` when the bytes do not fit the return annotation."""
        reader = codec.reader(content_type)
        return self.returns(reader.loads(data), reader)

    # -- annotations -------------------------------------------------------------------------------

    def check(self) -> None:
        """Resolve every annotation now.

        Raises:
            ConfigurationError: one cannot be resolved or stored, or the first cannot be ``ctx``.
        """
        self._check_ctx()
        for name in self._parameters:
            self._converter(name)

    @property
    def returns(self) -> Converter:
        """The converter of the return annotation."""
        if self._result is None:
            where = f"the result of task {self._task!r}"
            annotation = self._signature.return_annotation
            if annotation is inspect.Signature.empty:
                annotation = Any
            self._result = Converter(resolve(annotation, "return", self._fn, where), where)
        return self._result

    def _converter(self, name: str) -> Converter:
        converter = self._converters.get(name)
        if converter is None:
            where = f"parameter {name!r} of task {self._task!r}"
            annotation = self._parameters[name].annotation
            if annotation is inspect.Parameter.empty:
                annotation = Any
            converter = Converter(resolve(annotation, name, self._fn, where), where)
            self._converters[name] = converter
        return converter

    def _named(self, args: Any, kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for index, value in enumerate(args):
            if index < self._most:
                yield self._positional[index], value
            else:
                yield self._variadic[inspect.Parameter.VAR_POSITIONAL], value
        for key, value in kwargs.items():
            yield self._parameter_of(key), value

    def _parameter_of(self, key: str) -> str:
        return key if key in self._by_keyword else self._variadic[inspect.Parameter.VAR_KEYWORD]


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _remedy(value: Any, converter: Converter, place: str) -> str:
    """What to do with a model where none is expected."""
    if converter.models is None and is_model(type(value)):
        return f"; annotate the {place} with {type(value).__name__}"
    return ""
