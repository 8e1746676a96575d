from datetime import UTC, datetime

import pytest
from aioq_msgpack import MsgpackSerializer

from aioq import Aarq, Context
from aioq.errors import SerializationError

app = Aarq("memory://", serializer=MsgpackSerializer())


@app.task(save_result=True)
async def stamp(ctx: Context, picture: bytes, at: datetime) -> tuple[bytes, datetime]:
    return picture, at


@pytest.fixture
def aioq_app() -> Aarq:
    return app


def test_values_arrive_as_they_were_sent(aioq_jobs) -> None:
    at = datetime(2026, 2, 3, tzinfo=UTC)
    stamp.enqueue_sync(b"\x89PNG\x00", at)
    (job,) = aioq_jobs.run_sync()
    assert job.result == (b"\x89PNG\x00", at)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x91" * 100_000])
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SerializationError):
        MsgpackSerializer().loads(data)


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(SerializationError):
        MsgpackSerializer().dumps(object())
