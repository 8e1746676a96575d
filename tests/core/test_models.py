"""pydantic models as arguments and results: what arrives is what was sent, or nothing is."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from aioq import Aarq, Context, TaskDef
from aioq._models import Models
from aioq.errors import ConfigurationError, InvalidArguments, SerializationError
from aioq.plugins import Serializer

T = TypeVar("T")
WHEN = datetime(2030, 1, 31, 9, tzinfo=UTC)
KEY = UUID("12345678-1234-5678-1234-567812345678")


class User(BaseModel):
    id: int
    name: str = "nobody"


class Admin(User):
    level: int = 9


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: datetime
    key: UUID
    tags: frozenset[str]


class Split(BaseModel):
    """Read under other names than it is written, and only under those."""

    model_config = ConfigDict(validate_by_name=False, serialize_by_alias=True)
    number: int = Field(validation_alias=AliasChoices("no", "num"), serialization_alias="NUMBER")
    deep: str = Field(validation_alias=AliasPath("a", 0))


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int

    @computed_field
    @property
    def area(self) -> int:
        return self.width**2


class Page(BaseModel, Generic[T]):
    items: list[T]
    more: bool = False


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool = True


class Names(RootModel[list[str]]): ...


@pydantic.dataclasses.dataclass
class Checked:
    n: Annotated[int, Field(gt=0)]


@dataclass
class Order:
    user: User
    lines: list[str]


class Basket(TypedDict):
    owner: User | None
    count: int


class Node(BaseModel):
    value: int
    next: "Node | None" = None


class Hidden(BaseModel):
    password: SecretStr


class Partial(BaseModel):
    kept: int
    dropped: int = Field(default=1, exclude=True)


class Lossy(BaseModel):
    text: str

    @field_serializer("text")
    def shorten(self, text: str) -> str:
        return text[:3]


class Private(BaseModel):
    n: int
    _seen: list[int] = PrivateAttr(default_factory=list)


class Binary(BaseModel):
    data: bytes


class Struct(msgspec.Struct):
    user: User


def task_of(app: Aarq, annotation: Any) -> TaskDef[..., Any]:
    async def task(ctx, value): ...

    task.__annotations__ |= {"value": annotation, "return": annotation}
    return app.task(name="t", save_result=True)(task)


ARRIVE = [
    (User, User(id=1, name="Ada")),
    (Strict, Strict(when=WHEN, key=KEY, tags=frozenset("ab"))),
    (Split, Split(no=1, a=["x"])),  # type: ignore[call-arg]
    (Computed, Computed(width=3)),
    (Page[User], Page[User](items=[User(id=1), User(id=2)])),
    (Page[Page[int]], Page[Page[int]](items=[Page[int](items=[1])])),
    (list[User], [User(id=1), User(id=2)]),
    (dict[str, list[User | None]], {"a": [User(id=1), None]}),
    (tuple[User, int], (User(id=1), 2)),
    (User | None, None),
    (User | None, User(id=1)),
    (Cat | Dog, Dog()),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Cat(lives=1)),
    (list[Cat | Dog | str | int], [Cat(), Dog(good=False), "x", 5]),
    (Names, Names(["a", "b"])),
    (Checked, Checked(n=1)),
    (Order, Order(User(id=1), ["tea"])),
    (Basket, {"owner": User(id=1), "count": 2}),
    (Node, Node(value=1, next=Node(value=2))),
    (Private, Private(n=1)),
    (Binary, Binary(data=b"text")),
]


@pytest.mark.parametrize(("annotation", "value"), ARRIVE, ids=lambda it: str(it)[:50])
def test_a_model_arrives_as_it_was_sent(app: Aarq, travel, annotation: Any, value: Any):
    task = task_of(app, annotation)
    args, _ = travel(task, value)
    assert args == [value]
    assert type(args[0]) is type(value)
    _, kwargs = travel(task, value=value)
    assert kwargs == {"value": value}


@pytest.mark.parametrize(("annotation", "value"), ARRIVE, ids=lambda it: str(it)[:50])
async def test_a_model_is_a_result(app: Aarq, hand, annotation: Any, value: Any):
    task = task_of(app, annotation)
    job = await task.enqueue(value)
    await hand.complete(task, value)
    assert await job.wait() == value
    assert job.result == value
    found = await task.get_job(job.id)
    assert type(found.result) is type(value)


def changed(cls: type[BaseModel], **wrong: Any) -> Any:
    return cls.model_construct(**wrong)


private = Private(n=1)
private._seen.append(2)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (User, Admin(id=1), "it would arrive as User(id=1, name='nobody')"),
        (list[User], [Admin(id=1)], "it would arrive as [User(id=1, name='nobody')]"),
        (User, {"id": 1}, "it would arrive as User(id=1, name='nobody')"),
        (User, 5, "Input should be an object"),
        (User, changed(User, id="five"), "id: Input should be a valid integer, unable to parse"),
        (Checked, changed(User, id=1), "Field required"),
        (Page[User], changed(Page[User], items=[{"id": "x"}]), "items.0.id: Input should be"),
        (Hidden, Hidden(password=SecretStr("hush")), "it would arrive as Hidden(password=Secret"),
        (Partial, Partial(kept=1, dropped=2), "it would arrive as Partial(kept=1, dropped=1)"),
        (Lossy, Lossy(text="tedious"), "it would arrive as Lossy(text='ted')"),
        (Private, private, "it would arrive as Private(n=1)"),
        (UUID | User | str, str(KEY), "it would arrive as UUID('12345678"),
        (dict[str, User | float], {"a": float("nan")}, "does not fit its annotation"),
        (dict[str, User | int], {"a": True}, "it would arrive as {'a': 1}"),
    ],
    ids=lambda it: str(it)[:50],
)
def test_what_would_be_lost_or_does_not_fit_is_refused(
    app: Aarq, annotation: Any, value: Any, message: str
):
    with pytest.raises(InvalidArguments) as refused:
        task_of(app, annotation).job(value)
    said = str(refused.value)
    assert said.startswith("t: argument 'value' is ")
    assert message in said
    assert "hush" not in said
    assert "\n" not in said
    assert "http" not in said


def test_many_errors_are_told_in_one_sentence(app: Aarq):
    wrong = [changed(User, id=text) for text in "abcde"]
    with pytest.raises(InvalidArguments, match=r"(?m)0\.id: .*; 1\.id: .*; 2\.id: .*; and 2 more$"):
        task_of(app, list[User]).job(wrong)


def test_bytes_that_are_no_text_have_no_form_in_json(app: Aarq):
    with pytest.raises(SerializationError, match=r"'value' cannot be serialised as .*: .*utf-8"):
        task_of(app, Binary).job(Binary(data=b"\xff"))


def test_text_that_json_cannot_hold_is_refused_when_it_is_read():
    with pytest.raises(SerializationError, match="surrogates not allowed"):
        Models(User, "a result").load("\ud800")


def test_without_its_annotation_a_model_is_refused_with_the_remedy(app: Aarq):
    @app.task(name="bare", save_result=True)
    async def bare(ctx, value): ...

    with pytest.raises(SerializationError) as refused:
        bare.job(User(id=1))
    assert str(refused.value).endswith("; annotate the parameter with User")
    with pytest.raises(SerializationError) as refused:
        bare.signature.pack_result(User(id=1), app.codec)
    assert str(refused.value).endswith("; annotate the result with User")


def test_a_result_that_is_not_what_the_annotation_says(app: Aarq):
    with pytest.raises(SerializationError, match=r"come back as a User or with parts changed"):
        task_of(app, User).signature.pack_result(Admin(id=1), app.codec)


def test_a_struct_around_a_model_is_refused_by_name(app: Aarq):
    with pytest.raises(ConfigurationError) as refused:
        task_of(app, Struct).signature.check()
    said = str(refused.value)
    assert "of parameter 'value' of task 't' cannot be stored: beside a pydantic model" in said
    assert "Struct" in said
    assert "\n" not in said


def test_a_model_that_is_not_finished(app: Aarq):
    class Unfinished(BaseModel):
        other: "Missing"  # type: ignore[name-defined]  # noqa: F821 - that is the point

    with pytest.raises(ConfigurationError, match="Missing"):
        task_of(app, Unfinished).signature.check()


def test_a_pydantic_that_is_too_old_is_named(app: Aarq, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pydantic, "VERSION", "2.10.6")
    with pytest.raises(ConfigurationError, match=r"pydantic 2\.10\.6 is too old .* needs 2\.11"):
        task_of(app, User).signature.check()


def test_only_the_parameters_with_models_are_pydantics(app: Aarq, travel):
    @app.task(name="mixed")
    async def mixed(
        ctx: Context, n: int, user: User | None = None, *rest: User, at: datetime, **more: User
    ) -> None: ...

    for args, kwargs in [
        ((1,), {"at": WHEN}),
        ((1, User(id=1), User(id=2), User(id=3)), {"at": WHEN, "x": User(id=4)}),
    ]:
        got, named = travel(mixed, *args, **kwargs)
        assert (tuple(got), named) == (args, kwargs)
    with pytest.raises(InvalidArguments, match="argument 'n' is '1'"):
        mixed.job("1", User(id=1), at=WHEN)  # type: ignore[arg-type]


def test_models_travel_by_the_names_of_their_fields(app: Aarq):
    body = task_of(app, Split).job(Split(no=1, a=["x"]))._read_body()  # type: ignore[call-arg]
    assert body is not None
    assert json.loads(body.arguments) == [[{"number": 1, "deep": "x"}], {}]


class MessagePack(Serializer):
    content_type = "application/x-msgpack"

    def dumps(self, value: Any) -> bytes:
        return msgspec.msgpack.encode(value)

    def loads(self, data: bytes) -> Any:
        return msgspec.msgpack.decode(data)


@pytest.mark.parametrize(("annotation", "value"), ARRIVE, ids=lambda it: str(it)[:50])
def test_any_serializer_can_carry_them(annotation: Any, value: Any):
    app = Aarq("memory://", serializer=MessagePack(), plugins=False)
    task = task_of(app, annotation)
    body = task.job(value)._read_body()
    assert body is not None
    assert task.signature.unpack(body, app.codec) == ([value], {})


def test_validators_run_at_the_enqueue_and_in_the_worker(app: Aarq, travel):
    runs: list[int] = []

    class Counted(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def count(cls, n: int) -> int:
            runs.append(n)
            return n

    task = task_of(app, Counted)
    value = Counted(n=1)
    runs.clear()
    travel(task, value)
    assert runs == [1, 1]
