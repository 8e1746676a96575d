"""Rows and records: ids, tokens, states and the description of a job."""

import struct
from typing import Any, Final

from aioq.errors import BatchRejected
from aioq.plugins import JobInfo, Status, Token

__all__ = [
    "DISOWNED",
    "DONE",
    "ENDED",
    "JOB",
    "OPEN",
    "QUARANTINED",
    "READY",
    "RUNNING",
    "SCHEDULED",
    "STATUS",
    "find_id",
    "info",
    "make_token",
    "need_id",
    "split_token",
    "to_text",
]

READY: Final = 0
SCHEDULED: Final = 1
RUNNING: Final = 4
QUARANTINED: Final = 5

OPEN: Final = 0
ENDED: Final = 1
DISOWNED: Final = 2
"""What became of the last token: its owner ended the delivery; a requeue has made it void."""

STATUS: Final[dict[Status, int]] = {"completed": 10, "failed": 11, "cancelled": 12, "dead": 13}
"""Numbers of the finished states."""

_NAMES: Final[dict[int, Status]] = {
    READY: "pending",
    QUARANTINED: "pending",
    RUNNING: "running",
    **{number: status for status, number in STATUS.items()},
}

JOB: Final = (
    "id, queue, task, state, policy, body, note, priority, delivery, retries, crashes, "
    "created_at, run_at, started_at, null, owner, null, null, cancel_asked"
)
"""Columns of a live job as ``info`` takes them."""
DONE: Final = (
    "id, queue, task, status, policy, body, note, priority, delivery, retries, crashes, "
    "created_at, run_at, started_at, finished_at, owner, result, content_type, 0"
)
"""The same of a record."""

# The layout of `aioq.plugins.Fence`, read without the detour over text: that costs as much as the
# rows themselves. A test compares the two.
_token = struct.Struct(">16sI16sq")
make_token = _token.pack
"""Job id, delivery number, worker id and the instant of the enqueue, as a token."""


def split_token(token: Token) -> tuple[bytes, int, bytes, int] | None:
    """What a token was made of; None when the bytes are no token."""
    return _token.unpack(token) if len(token) == _token.size else None


def to_text(raw: bytes) -> str:
    """An id in canonical text form."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def find_id(text: str) -> bytes | None:
    """The bytes of an id; None when the text is no UUID, which no job can have."""
    if len(text) != 36:
        return None
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == 16 else None


def need_id(text: str) -> bytes:
    """The bytes of an id.

    Raises:
        BatchRejected: the text is no UUID.
    """
    raw = find_id(text)
    if raw is None:
        raise BatchRejected(f"{text!r} is not a UUID in its usual form of 36 characters")
    return raw


def info(row: tuple[Any, ...]) -> JobInfo:
    """A job from the columns ``JOB`` or ``DONE``."""
    state: int = row[3]
    if state == SCHEDULED:
        status: Status = "retrying" if row[9] else "scheduled"
    else:
        status = _NAMES[state]
    owner: bytes | None = row[15]
    return JobInfo._make(
        (
            to_text(row[0]),
            *row[1:3],
            status,
            *row[4:15],
            None if owner is None else to_text(owner),
            *row[16:18],
            state == QUARANTINED,
            bool(row[18]),
        )
    )
