"""Rows and records: ids, tokens, states and the description of a job."""

import struct
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from aioq.errors import BatchRejected
from aioq.plugins import JobInfo, Status, Token

__all__ = [
    "COMPLETED",
    "DONE",
    "JOB",
    "SAME",
    "STATUS",
    "find_id",
    "info",
    "make_token",
    "need_id",
    "split_token",
]

FinalStatus: TypeAlias = Literal["completed", "failed", "cancelled", "dead"]

STATUS: Final[dict[FinalStatus, int]] = {"completed": 10, "failed": 11, "cancelled": 12, "dead": 13}
"""Numbers of the finished states."""
COMPLETED: Final = STATUS["completed"]

_SCHEDULED: Final = 1
_QUARANTINED: Final = 5
_NAMES: Final[dict[int, Status]] = {
    0: "pending",
    _QUARANTINED: "pending",
    4: "running",
    10: "completed",
    11: "failed",
    12: "cancelled",
    13: "dead",
}

_SHARED: Final = (
    "policy, body, note, priority, delivery, retries, crashes, created_at, run_at, started_at"
)
JOB: Final = (
    f"id, queue, task, state, {_SHARED}, null::bigint, owner, null::bytea, null::text, cancel_asked"
)
"""Columns of a live job as ``info`` takes them."""
DONE: Final = f"id, queue, task, status, {_SHARED}, finished_at, owner, result, content_type, false"
"""The same of a record."""

SAME: Final = "job.id = i.id and job.created_at = i.enqueued"
"""A live job is the one of a token, not another that got its id later."""

# The layout of `aioq.plugins.Fence`, read without the detour over text. A test compares the two.
_token = struct.Struct(">16sI16sq")
make_token = _token.pack
"""Job id, delivery number, worker id and the instant of the enqueue, as a token."""


def split_token(token: Token) -> tuple[UUID, int, UUID, int] | None:
    """What a token was made of; None when the bytes are no token of ours."""
    if len(token) != _token.size:
        return None
    job_id, number, worker, created_at = _token.unpack(token)
    if number >= 2**31:
        return None
    return UUID(bytes=job_id), number, UUID(bytes=worker), created_at


def find_id(text: str) -> UUID | None:
    """The id; None when the text is no UUID in its usual form, which no job can have."""
    if len(text) != 36:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None


def need_id(text: str) -> UUID:
    """The id.

    Raises:
        BatchRejected: the text is no UUID.
    """
    found = find_id(text)
    if found is None:
        raise BatchRejected(f"{text!r} is not a UUID in its usual form of 36 characters")
    return found


def info(row: Sequence[Any]) -> JobInfo:
    """A job from the columns ``JOB`` or ``DONE``."""
    state: int = row[3]
    if state == _SCHEDULED:
        status: Status = "retrying" if row[9] else "scheduled"
    else:
        status = _NAMES[state]
    owner = row[15]
    return JobInfo(
        id=str(row[0]),
        queue=row[1],
        task=row[2],
        status=status,
        policy=row[4],
        body=row[5],
        note=row[6],
        priority=row[7],
        delivery=row[8],
        retries=row[9],
        crashes=row[10],
        enqueued_ms=row[11],
        run_at_ms=row[12],
        started_ms=row[13],
        completed_ms=row[14],
        worker_id=None if owner is None else str(owner),
        result=row[16],
        content_type=row[17],
        quarantined=state == _QUARANTINED,
        cancel_asked=row[18],
    )
