"""A call is bound when it is made, and its arguments arrive as their annotations say."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial, wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NamedTuple,
    Protocol,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import msgspec
import pytest

from aioq import Aarq
from aioq import Context as ContextOfTasks
from aioq._signature import Signature
from aioq._wire import Body
from aioq.errors import ConfigurationError, InvalidArguments, SerializationError
from aioq.plugins import Serializer

if TYPE_CHECKING:
    from only_for_checkers import Missing

    from aioq import Context


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Address:
    street: str
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Person:
    name: str
    born: date
    home: Address | None = None


class Point(TypedDict):
    x: int
    y: float


class Pair(NamedTuple):
    left: int
    right: str


class Shape(msgspec.Struct):
    sides: int
    name: str = "shape"


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Node(msgspec.Struct):
    value: int
    next: Node | None = None


UUID_1 = UUID("0190a1b2-0000-7000-8000-000000000001")
ZONE = timezone(timedelta(hours=5, minutes=30))

TRIPS: list[tuple[Any, Any]] = [
    (int, 2**70),
    (int, -1),
    (float, 0.1),
    (float, 3),
    (str, "grüße \x00 \U0001f600"),
    (bytes, b"\x00\xff"),
    (bool, True),
    (None, None),
    (int | None, None),
    (int | str, "1"),
    (datetime, datetime(2024, 2, 29, 12, 0, 0, 123456, UTC)),
    (datetime, datetime(2024, 2, 29, 12, 0, tzinfo=ZONE)),
    (datetime, datetime(2024, 2, 29, 12, 0)),  # noqa: DTZ001 - without a zone on purpose
    (date, date(2024, 2, 29)),
    (time, time(12, 30)),
    (timedelta, timedelta(days=1, microseconds=1)),
    (UUID, UUID_1),
    (Decimal, Decimal("1.10")),
    (Colour, Colour.RED),
    (Level, Level.LOW),
    (Literal["a", "b"], "a"),
    (Address, Address("high street", ["a"])),
    (Person, Person("Ann", date(1990, 1, 1), Address("x"))),
    (Point, {"x": 1, "y": 2.5}),
    (Pair, Pair(1, "a")),
    (Shape, Shape(4)),
    (Circle | Square, Square(2.0)),
    (Node, Node(1, Node(2))),
    (list[int], [1, 2]),
    (list[Person], [Person("Ann", date(1990, 1, 1))]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (set[int], {1, 2}),
    (frozenset[int], frozenset({1})),
    (dict[int, str], {1: "a", -2: "b"}),
    (dict[UUID, Decimal], {UUID_1: Decimal("0.1")}),
    (Mapping[str, list[datetime]], {"a": [datetime(2024, 1, 1, tzinfo=UTC)]}),
    (dict[str, Any], {"a": [1, None, {"b": 2.5}]}),
    (Any, {"a": [1, None, True, "x", 1.5]}),
    (object, [1, "a"]),
]


@pytest.mark.parametrize(("annotation", "value"), TRIPS, ids=lambda item: str(item)[:40])
def test_an_annotated_value_arrives_equal_and_of_its_own_type(
    app: Aarq, travel: Callable[..., Any], annotation: Any, value: Any
) -> None:
    async def task(ctx, value): ...

    task.__annotations__["value"] = annotation
    (arrived,), _ = travel(app.task(task), value)
    assert arrived == value
    if annotation is not float:
        assert type(arrived) is type(value)


@pytest.mark.parametrize(("annotation", "value"), TRIPS, ids=lambda item: str(item)[:40])
def test_a_result_comes_back_as_the_return_annotation_says(
    app: Aarq, annotation: Any, value: Any
) -> None:
    async def task(ctx): ...

    task.__annotations__["return"] = annotation
    signature = app.task(task).signature
    data = signature.pack_result(value, app.codec)
    assert signature.unpack_result(data, "application/json", app.codec) == value


def test_a_sequence_arrives_as_a_list(app: Aarq, travel: Callable[..., Any]) -> None:
    @app.task
    async def task(ctx: Context, values: Sequence[int]) -> None: ...

    assert travel(task, (1, 2)) == ([[1, 2]], {})


def test_every_kind_of_parameter_is_converted(app: Aarq, travel: Callable[..., Any]) -> None:
    @app.task
    async def task(
        ctx: Context, a: UUID, /, b: date, *rest: Decimal, c: Colour, **named: Level
    ) -> None: ...

    day = date(2024, 1, 1)
    args, kwargs = travel(task, UUID_1, day, Decimal(1), Decimal(2), c=Colour.RED, x=Level.LOW)
    assert args == [UUID_1, day, Decimal(1), Decimal(2)]
    assert kwargs == {"c": Colour.RED, "x": Level.LOW}
    assert isinstance(kwargs["x"], Level)


def test_defaults_are_filled_in_by_the_function_not_by_the_wire(
    app: Aarq, travel: Callable[..., Any]
) -> None:
    @app.task
    async def task(ctx: Context, a: int, b: int = 2, *, c: int = 3) -> None: ...

    assert travel(task, 1) == ([1], {})
    assert travel(task, a=1) == ([], {"a": 1})


def test_a_keyword_with_the_name_of_a_positional_only_parameter_is_one_of_the_rest(
    app: Aarq, travel: Callable[..., Any]
) -> None:
    @app.task
    async def task(ctx: Context, a: int, /, **named: str) -> None: ...

    assert travel(task, 1, a="text") == ([1], {"a": "text"})


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ((), {}, "missing a required"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_with_the_signature(
    app: Aarq, args: Any, kwargs: Any, reason: str
) -> None:
    @app.task(name="t")
    async def task(ctx: Context, a: int, b: int = 0) -> None: ...

    with pytest.raises(InvalidArguments, match=reason) as refused:
        task.job(*args, **kwargs)
    assert "it takes (a: 'int', b: 'int' = 0)" in str(refused.value)
    assert isinstance(refused.value, TypeError)


def test_options_among_the_arguments_are_told_where_they_go(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context, n: int) -> None: ...

    with pytest.raises(InvalidArguments) as refused:
        task.job(5, delay=3, retries=1)  # type: ignore[call-arg]
    assert str(refused.value).endswith(
        "; options go before: .options(delay=..., retries=...).enqueue(...)"
    )


def test_ctx_is_given_by_the_worker_alone(app: Aarq, travel: Callable[..., Any]) -> None:
    @app.task(name="t")
    async def task(ctx: Context, **more: int) -> None: ...

    @app.task(name="u")
    async def positional(ctx: Context, /, **more: int) -> None: ...

    with pytest.raises(InvalidArguments, match=r"^t: 'ctx' is given by the worker; it takes \("):
        task.job(ctx=3)
    with pytest.raises(InvalidArguments, match="'ctx' is given by the worker"):
        task.signature.unpack(Body("application/json", b'[[],{"ctx":3}]', {}), app.codec)
    assert travel(positional, ctx=3) == ([], {"ctx": 3})


def test_a_task_without_ctx_is_told_what_its_first_parameter_gets(app: Aarq) -> None:
    @app.task(name="t")
    async def task(a, b): ...

    with pytest.raises(InvalidArguments) as refused:
        task.job(1, 2)
    assert str(refused.value) == (
        "t: too many positional arguments; it takes (b); its first parameter, 'a', gets ctx"
    )


@pytest.mark.parametrize("missing", ["keyword", "positional"])
def test_required_keywords_and_variadic_functions_are_bound_in_full(
    app: Aarq, missing: str
) -> None:
    @app.task
    async def task(ctx: Context, a: int, *rest: int, b: int) -> None: ...

    task.job(1, 2, 3, b=4)
    with pytest.raises(InvalidArguments):
        task.job(1) if missing == "keyword" else task.job(b=1)


def test_a_value_that_does_not_fit_is_an_error_that_names_argument_and_annotation(
    app: Aarq,
) -> None:
    @app.task(name="t")
    async def task(ctx: Context, n: int, who: Person | None = None) -> None: ...

    with pytest.raises(InvalidArguments) as refused:
        task.job("five")
    assert str(refused.value) == (
        "t: argument 'n' is 'five', which does not fit its annotation int: "
        "Expected `int`, got `str`"
    )
    with pytest.raises(InvalidArguments, match="argument 'who' is 'Bob'"):
        task.job(1, who="Bob")


def test_what_has_no_form_is_an_error_that_names_the_argument(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context, a: Any, b: Any = None) -> None: ...

    with pytest.raises(SerializationError) as refused:
        task.job(1, b=object())
    assert str(refused.value).startswith(
        "t: argument 'b' cannot be serialised as application/json: "
    )


def test_a_result_without_a_form_is_a_serialization_error_that_names_the_task(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context) -> Any: ...

    with pytest.raises(SerializationError, match=r"^t: the result cannot be saved as application/"):
        task.signature.pack_result(object(), app.codec)


def test_a_result_that_does_not_fit_its_annotation_is_refused(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context) -> int: ...

    with pytest.raises(SerializationError, match="Expected `int`, got `str`"):
        task.signature.pack_result("five", app.codec)


def test_a_result_that_would_change_is_refused(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context) -> Any: ...

    with pytest.raises(SerializationError, match="a dict would come back as a dict or with parts"):
        task.signature.pack_result({1: "a"}, app.codec)
    with pytest.raises(SerializationError, match="a set would come back as a list"):
        task.signature.pack_result({1}, app.codec)


def test_arguments_of_an_older_signature_are_invalid_for_the_new_one(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context, a: int) -> None: ...

    for arguments, reason in [
        (b"[[1,2],{}]", "too many positional"),
        (b'[["x"],{}]', "argument 'a' does not fit its annotation"),
    ]:
        with pytest.raises(InvalidArguments, match=reason):
            task.signature.unpack(Body("application/json", arguments), app.codec)


@pytest.mark.parametrize(
    "arguments", [b"", b"{", b"1", b"[]", b"[[],[]]", b"[{},{}]", b"[[],{},1]"]
)
def test_bytes_that_are_no_call_are_a_serialization_error(app: Aarq, arguments: bytes) -> None:
    @app.task
    async def task(ctx: Context) -> None: ...

    with pytest.raises(SerializationError):
        task.signature.unpack(Body("application/json", arguments), app.codec)


def test_a_context_imported_for_checkers_only_is_never_looked_up(app: Aarq) -> None:
    @app.task
    async def task(ctx: Context, n: int) -> None: ...

    task.signature.check()


def test_a_name_imported_for_checkers_only_is_an_error_that_says_what_to_do(app: Aarq) -> None:
    @app.task(name="t")
    async def task(ctx: Context, thing: Missing) -> Missing: ...

    with pytest.raises(ConfigurationError) as refused:
        task.job(1)
    assert str(refused.value) == (
        "the annotation 'Missing' of parameter 'thing' of task 't' cannot be resolved (name "
        "'Missing' is not defined): define or import it at module level, outside TYPE_CHECKING"
    )
    with pytest.raises(ConfigurationError, match="the result of task 't' cannot be resolved"):
        _ = task.signature.returns


def test_an_annotation_may_name_what_is_defined_later(
    app: Aarq, travel: Callable[..., Any]
) -> None:
    @app.task
    async def task(ctx: Context, late: Late, others: list[Late]) -> None: ...

    assert travel(task, Late(1), [Late(2)]) == ([Late(1), [Late(2)]], {})


@dataclass
class Late:
    n: int


def test_a_decorated_function_keeps_its_signature(app: Aarq) -> None:
    def traced(fn: Any) -> Any:
        @wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return wrapper

    @app.task
    @traced
    async def task(ctx: Context, n: int) -> None: ...

    assert task.is_async
    with pytest.raises(InvalidArguments):
        task.job("five")


def test_a_partial_is_a_task_when_it_is_given_a_name(app: Aarq, travel: Callable[..., Any]) -> None:
    async def base(ctx: Any, a: int, *, b: int) -> None: ...

    task = app.task(name="partial")(partial(base, b=2))
    assert task.is_async
    assert travel(task, 1) == ([1], {})


def nothing() -> None: ...


def only_keywords(*, ctx: Any) -> None: ...


def gathers(*ctx: Any) -> None: ...


def without_ctx(a: int, b: int) -> None: ...


def with_a_list(items: list[int] | None) -> None: ...


class Holder:
    async def method(self, n: int) -> None: ...

    @classmethod
    async def of_class(cls, n: int) -> None: ...


def generator(ctx: Any) -> Any:
    yield 1


async def async_generator(ctx: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (nothing, "must take ctx as its first argument: async def nothing(ctx, ...)"),
        (only_keywords, "must take ctx as its first argument"),
        (gathers, "must take ctx as its first argument"),
        (without_ctx, "task 't' must take ctx as its first argument, not a: int"),
        (with_a_list, "must take ctx as its first argument, not items: list[int] | None"),
        (Holder.method, "takes 'self': tasks are plain functions, not methods"),
        (generator, "is a generator: a task returns its result, it yields nothing"),
        (async_generator, "is a generator: a task returns its result, it yields nothing"),
    ],
)
def test_what_cannot_be_a_task_is_refused_at_decoration(fn: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Signature(fn, "t")
    assert reason in str(refused.value)


class Attributes(Protocol):
    job_id: str


class Keys(TypedDict):
    job_id: str


State = TypeVar("State")


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        object,
        dict,
        dict[str, Any],
        Mapping[str, Any],
        Attributes,
        Keys,
        State,
        ContextOfTasks,
        ContextOfTasks[Person],
        ContextOfTasks[Any] | None,
        Annotated[ContextOfTasks, "given"],
        "Missing",
        "dict[str, Missing]",
    ],
    ids=str,
)
def test_what_a_context_can_be_may_annotate_the_first_parameter(annotation: Any) -> None:
    def task(given, n): ...

    task.__annotations__ = {"given": annotation, "n": int}
    Signature(task, "t").check()


def test_a_first_parameter_that_is_defined_later_is_checked_when_the_worker_starts() -> None:
    def task(early, n): ...

    task.__annotations__ = {"early": "DefinedLater"}
    signature = Signature(task, "t")
    signature.check()
    task.__globals__["DefinedLater"] = Person
    try:
        with pytest.raises(ConfigurationError, match=r"its first argument, not early: Person"):
            signature.check()
    finally:
        del task.__globals__["DefinedLater"]


def test_an_annotation_that_python_left_unresolved_is_resolved_when_it_is_used(
    app: Aarq, travel: Callable[..., Any]
) -> None:
    """As Python 3.14 gives it where a name is not defined yet."""

    async def task(ctx, late): ...

    task.__annotations__ = {"late": ForwardRef("Late")}
    assert travel(app.task(task), Late(1)) == ([Late(1)], {})


def test_a_serializer_may_change_the_order_of_keywords() -> None:
    class Sorted(Serializer):
        content_type = "application/x-sorted"

        def dumps(self, value: Any) -> bytes:
            return json.dumps(value, sort_keys=True).encode()

        def loads(self, data: bytes) -> Any:
            return json.loads(data)

    app = Aarq("memory://", serializer=Sorted(), plugins=False)

    @app.task
    async def task(ctx: Context, b: int, a: str) -> None: ...

    assert task.job(b=1, a="x").kwargs == {"b": 1, "a": "x"}
    assert task.job(2, a="x").args == (2,)
