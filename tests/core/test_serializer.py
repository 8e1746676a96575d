"""The JSON serializer, a third-party one, and which of them reads what."""

import contextlib
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioq import Aarq, Context
from aioq._codec import Codec
from aioq._json import JSONSerializer
from aioq._serializer import Serializer
from aioq.errors import InvalidArguments, SerializationError


class Repr(Serializer):
    """Writes Python's own notation."""

    content_type: ClassVar[str] = "text/x-repr"

    def dumps(self, value: Any) -> bytes:
        return repr(value).encode()

    def loads(self, data: bytes) -> Any:
        import ast

        return ast.literal_eval(data.decode())


@given(st.binary(max_size=64))
def test_rubbish_is_a_serialization_error_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(SerializationError):
        JSONSerializer().loads(data)


def test_a_deep_pile_of_lists_is_refused() -> None:
    with pytest.raises(SerializationError):
        JSONSerializer().loads(b"[" * 100_000)


async def test_an_app_writes_with_its_own_serializer_and_reads_what_others_wrote(
    broker: Any, hand: Any
) -> None:
    by_json, by_repr = Aarq(broker, plugins=False), Aarq(broker, serializer=Repr(), plugins=False)

    async def task(ctx: Context, n: int, text: str = "") -> int: ...

    written = await by_json.task(task).enqueue(1, text="a")
    own = by_repr.task(save_result=True)(task)
    mine = await own.enqueue(2, text="b")
    assert b"text/x-repr" in (await broker.find_info(mine.id)).body
    for job, arguments in ((written, (1, "a")), (mine, (2, "b"))):
        found = await own.get_job(job.id)
        assert found is not None
        assert (*found.args, *found.kwargs.values()) == arguments
    assert (await broker.get_job(mine.id)).args == (2,)
    with pytest.raises(InvalidArguments, match="Expected `int`, got `str`"):
        own.job("five")


def test_without_a_content_type_the_apps_own_reads() -> None:
    codec = Codec(Repr())
    assert codec.loads(b"(1, 2)", None) == (1, 2)
    assert codec.loads(b"[1]", "application/json") == [1]
    with pytest.raises(SerializationError, match="no installed serializer reads 'x/y' "):
        codec.loads(b"", "x/y")
