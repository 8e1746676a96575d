"""Nothing changes on the way without being said: it arrives as it was sent, or it is refused."""

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioq import Aarq
from aioq._values import survives
from aioq.errors import ConfigurationError, InvalidArguments, SerializationError


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    breed: str = "poodle"


@dataclass
class Cat:
    lives: int


@dataclass(eq=False)
class Incomparable:
    n: int


class Text(str): ...


class Kind(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Label(Enum):
    A = "a"


Named = namedtuple("Named", "x y")

ITSELF: list[Any] = []
ITSELF.append(ITSELF)


def task_of(app: Aarq, annotation: Any) -> Any:
    async def task(ctx, value): ...

    if annotation is not None:
        task.__annotations__["value"] = annotation
    return app.task(name="t")(task)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [float("nan")],
        {1: "a"},
        {1.5: "a"},
        {"deep": [{2: "b"}]},
        (1, 2),
        [(1, 2)],
        {1, 2},
        frozenset("a"),
        b"bytes",
        date(2024, 1, 1),
        datetime(2024, 1, 1),  # noqa: DTZ001 - without a zone on purpose
        UUID(int=7),
        Decimal("1.5"),
        Animal("Rex"),
        Label.A,
        Kind.A,
        Number.ONE,
        Named(1, 2),
        OrderedDict(a=1),
        defaultdict(list, a=[1]),
    ],
    ids=repr,
)
def test_without_an_annotation_only_what_comes_back_as_it_is_may_go(app: Aarq, value: Any) -> None:
    for annotation in (None, Any, object):
        with pytest.raises(InvalidArguments, match=r"but would arrive as .*: annotate the param"):
            task_of(app, annotation).job(value)


@pytest.mark.parametrize(
    "value", [Text("a"), object(), complex(1), "\ud800", {"\ud800": 1}, ITSELF, {(1, 2): 3}, Path()]
)
def test_what_json_cannot_hold_is_refused(app: Aarq, value: Any) -> None:
    with pytest.raises(SerializationError, match="argument 'value' cannot be serialised as"):
        task_of(app, None).job(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (int, 1.5),
        (int, "1"),
        (int, None),
        (bool, 1),
        (str, 1),
        (str, b"a"),
        (float, float("nan")),
        (float, float("inf")),
        (float | None, float("nan")),
        (float, True),
        (float, 2**53 + 1),
        (list[int], [1, True]),
        (dict[str, int], {1: 1}),
        (dict[str, Any], {"a": {1: 2}}),
        (dict[str, Any], {"a": {3}}),
        (dict[str, Any], {"a": datetime(2024, 1, 1)}),  # noqa: DTZ001 - without a zone on purpose
        (list[Any], [float("nan")]),
        (Animal, Dog("Rex")),
        (list[Animal], [Dog("Rex")]),
        (Animal, Cat(9)),
        (Animal, {"name": "Rex"}),
        (date, datetime(2024, 1, 1)),  # noqa: DTZ001 - without a zone on purpose
        (datetime, date(2024, 1, 1)),
        (UUID, "not a uuid"),
        (Label, "a"),
        (Decimal, Decimal("NaN")),
        (tuple[int, int], (1, 2, 3)),
    ],
    ids=repr,
)
def test_a_value_that_is_not_what_its_annotation_says_is_refused(
    app: Aarq, annotation: Any, value: Any
) -> None:
    with pytest.raises(InvalidArguments, match=r"'value' is .*does not fit its annotation"):
        task_of(app, annotation).job(value)


def test_a_class_without_equality_is_compared_by_its_fields(app: Aarq) -> None:
    task_of(app, Incomparable).job(Incomparable(1))
    assert not survives(Incomparable(1), Incomparable(2), exact=False)


@pytest.mark.parametrize(
    "annotation",
    [
        Animal | Cat,
        str | UUID,
        str | datetime,
        str | bytes,
        datetime | date,
        list[int] | set[int],
        int | Number,
        Path | str,
        list[Animal | Cat],
    ],
    ids=str,
)
def test_a_union_that_cannot_be_told_apart_is_refused_with_the_remedy(
    app: Aarq, annotation: Any
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        task_of(app, annotation).job(1)
    message = str(refused.value)
    assert "of parameter 'value' of task 't' cannot be stored: Type unions" in message
    assert message.endswith(
        "Use one type, or msgspec.Struct classes with a tag, so that a value tells which one it is"
    )


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (Path, "Path"),
        (Path | None, "Path"),
        (list[Path], "Path"),
        (dict[str, list[IPv4Address]], "IPv4Address"),
        (deque[int], "deque"),
        (OrderedDict, "OrderedDict"),
        (Iterable[int], "Iterable"),
        (complex, "complex"),
    ],
    ids=str,
)
def test_a_type_without_a_form_is_refused_by_name(app: Aarq, annotation: Any, name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        task_of(app, annotation).job(1)
    assert str(refused.value) == (
        f"{name!r} in the annotation of parameter 'value' of task 't' cannot be stored: pass a "
        f"str, or a dataclass, TypedDict or msgspec.Struct with what the task needs"
    )


def test_annotations_can_be_checked_before_the_first_call(app: Aarq) -> None:
    with pytest.raises(ConfigurationError, match="'Path'"):
        task_of(app, Path).signature.check()


@pytest.mark.parametrize("depth", [100, 400, 900, 5000, 100_000])
def test_a_deep_value_arrives_or_is_refused_and_never_breaks(app: Aarq, depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    try:
        task_of(app, None).job(value)
    except SerializationError:
        assert depth > 100


def test_a_long_value_is_shortened_in_the_message(app: Aarq) -> None:
    with pytest.raises(InvalidArguments, match=r"xxx\.\.\.") as refused:
        task_of(app, int).job("x" * 100_000)
    assert len(str(refused.value)) < 500


def test_a_deep_value_in_a_message_is_cut_short(app: Aarq) -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    with pytest.raises(InvalidArguments, match=r"is \[\[.*\.\.\."):
        task_of(app, int).job(value)


def test_a_deep_result_is_saved_or_refused_and_never_breaks(app: Aarq) -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    with pytest.raises(SerializationError, match="nested too deeply"):
        task_of(app, None).signature.pack_result(value, app.codec)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_whatever_is_accepted_arrives_the_same(value: Any) -> None:
    app = Aarq("memory://", plugins=False)
    task = task_of(app, None)
    try:
        job = task.job(value)
    except (InvalidArguments, SerializationError):
        return
    body = job._read_body()
    assert body is not None
    (arrived,), _ = task.signature.unpack(body, app.codec)
    assert repr(arrived) == repr(value) or msgspec.json.encode(arrived) == msgspec.json.encode(
        value
    )
    assert type(arrived) is type(value)
