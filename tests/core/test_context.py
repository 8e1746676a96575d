"""``ctx`` is a dict, and its keys read as attributes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from aioq import Context

KEYS: dict[str, Any] = {
    "worker_id": "w",
    "job_id": "j",
    "broker": object(),
    "app": object(),
    "task_name": "t",
    "queue": "q",
    "attempt": 2,
    "retries": 1,
    "enqueued_at": datetime(2024, 1, 1, tzinfo=UTC),
    "headers": {},
    "state": None,
}


@pytest.mark.parametrize("key", KEYS)
def test_item_and_attribute_are_the_same(key: str) -> None:
    ctx: Context[Any] = Context(KEYS)
    assert ctx[key] is getattr(ctx, key)


def test_it_is_a_dict() -> None:
    ctx: Context[Any] = Context(KEYS, extra=1)
    assert isinstance(ctx, dict)
    assert ctx.extra == 1
    assert "extra" in ctx
    assert Context[int](a=1) == {"a": 1}


@pytest.mark.parametrize("key", ["state", "app", "misspelt"])
def test_a_missing_key_is_an_attribute_error_that_names_what_is_there(key: str) -> None:
    ctx: Context[Any] = Context(queue="q", job_id="j")
    with pytest.raises(AttributeError, match=f"(?m)^ctx has no '{key}'; it has job_id, queue$"):
        getattr(ctx, key)
    assert not hasattr(ctx, key)
    with pytest.raises(KeyError):
        ctx[key]
