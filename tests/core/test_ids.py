"""Job ids ascend, and a token is what it was made of."""

import struct
import threading
import time
from uuid import UUID, uuid4

import pytest

from aioq._fence import Fence
from aioq._ids import new_job_id


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioq._ids._last", 0)  # another test may have set the clock forward
    before = time.time_ns() // 1_000_000
    made = UUID(new_job_id())
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before - 1 <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1000
    assert str(made) == str(UUID(str(made)))


def test_ids_ascend_also_between_threads_and_when_the_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = time.time_ns()
    monkeypatch.setattr("aioq._ids.time.time_ns", lambda: frozen)
    ids = [new_job_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    others: list[str] = []
    threads = [
        threading.Thread(target=lambda: others.extend(new_job_id() for _ in range(1000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(others)) == 4000
    assert min(others) > ids[-1]


def test_a_fence_is_44_bytes_and_comes_back_as_it_was() -> None:
    fence = Fence(str(uuid4()), 2**32 - 1, str(uuid4()), 2**62)
    assert len(fence.pack()) == 44
    assert Fence.unpack(fence.pack()) == fence
    with pytest.raises(struct.error):
        Fence.unpack(b"short")
