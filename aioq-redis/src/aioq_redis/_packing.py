"""The bytes that Redis holds: lua/bytes.lua has the same layouts in Lua, docs/redis.md in words."""

import struct
from typing import NamedTuple

from aioq.plugins import Delivery, JobInfo, NewJob, Status, Token

__all__ = [
    "LEASE_SIZE",
    "Side",
    "delivery",
    "live_info",
    "pack_id",
    "pack_value",
    "record_info",
    "split_token",
    "unpack_id",
    "worker_of",
]

_lease = struct.Struct(">16sI16sdddiB")
_value = struct.Struct(">diHI")
_new_value = struct.Struct(">iHI")
_side = struct.Struct(">BIIdi")
_record = struct.Struct(">cdi")

LEASE_SIZE = _lease.size
_WORKER = slice(20, 36)
_STATUS: dict[bytes, Status] = {b"c": "completed", b"f": "failed", b"x": "cancelled", b"d": "dead"}


class Value(NamedTuple):
    """What a job was enqueued with."""

    enqueued_ms: int
    priority: int
    task: str
    policy: bytes
    body: bytes


class Side(NamedTuple):
    """What the store remembers of a job between its deliveries."""

    retries: int = 0
    crashes: int = 0
    due_ms: int = 0
    note: bytes | None = None
    lease: bytes | None = None


def pack_id(text: str) -> bytes:
    """16 bytes for a UUID; ``ValueError`` when it is none."""
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != 16:
        raise ValueError(f"{text!r} is not a UUID")
    return raw


def unpack_id(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def worker_of(lease: bytes) -> bytes:
    """The worker that owns, or last owned, a delivery."""
    return lease[_WORKER]


def pack_value(job: NewJob) -> bytes:
    """A value without the instant of its enqueue, which the server puts before it.

    Raises:
        struct.error: a number is out of range.
        UnicodeError: the task's name is not text.
    """
    task = job.task.encode()
    head = _new_value.pack(job.priority, len(task), len(job.policy))
    return b"".join((head, task, job.policy, job.body))


def _unpack_value(raw: bytes, at: int = 0) -> Value:
    enqueued, priority, task_size, policy_size = _value.unpack_from(raw, at)
    policy_at = at + _value.size + task_size
    body_at = policy_at + policy_size
    task = raw[at + _value.size : policy_at].decode("utf-8", "replace")
    return Value(int(enqueued), priority, task, raw[policy_at:body_at], raw[body_at:])


def _unpack_side(raw: bytes, at: int = 0) -> tuple[Side, int]:
    """A side record, and where it ends."""
    _, retries, crashes, due, note_size = _side.unpack_from(raw, at)
    lease_at = at + _side.size
    note_at = lease_at + LEASE_SIZE
    end = note_at + max(note_size, 0)
    note = None if note_size < 0 else raw[note_at:end]
    return Side(retries, crashes, int(due), note, raw[lease_at:note_at]), end


def delivery(lease: bytes, value: bytes, side: bytes, queue: str, tail: bytes) -> Delivery:
    """A claimed job; ``tail`` is what follows the lease in a token: the name of its queue."""
    job_id, number, _, started, due, enqueued, priority, flags = _lease.unpack(lease)
    _, _, task_size, policy_size = _value.unpack_from(value)
    policy_at = _value.size + task_size
    body_at = policy_at + policy_size
    known = _unpack_side(side)[0] if side else Side()
    return Delivery(
        id=unpack_id(job_id),
        queue=queue,
        task=value[_value.size : policy_at].decode("utf-8", "replace"),
        token=lease + tail,
        policy=value[policy_at:body_at],
        body=value[body_at:],
        note=known.note,
        number=number,
        retries=known.retries,
        crashes=known.crashes,
        priority=priority,
        quarantined=flags == 1,
        enqueued_ms=int(enqueued),
        due_ms=int(due),
        claimed_ms=int(started),
    )


class _LastDelivery(NamedTuple):
    number: int = 0
    worker_id: str | None = None
    started_ms: int | None = None


def _last_delivery(lease: bytes | None) -> _LastDelivery:
    if lease is None:
        return _LastDelivery()
    _, number, worker, started, *_ = _lease.unpack(lease)
    if not number:
        return _LastDelivery()
    return _LastDelivery(number, unpack_id(worker), int(started))


def live_info(
    job_id: str,
    queue: str,
    raw_value: bytes,
    lease: bytes,
    raw_side: bytes,
    place: bytes,
    due_ms: int,
    stop: int,
) -> JobInfo:
    """A job that has not finished, from what lua/look.lua found."""
    value = _unpack_value(raw_value)
    side = _unpack_side(raw_side)[0] if raw_side else Side(due_ms=due_ms)
    status: Status = "pending"
    if place == b"l":
        status = "running"
        side = side._replace(lease=lease, due_ms=int(_lease.unpack(lease)[4]))
    elif place == b"s":
        status = "retrying" if side.retries else "scheduled"
    last = _last_delivery(side.lease)
    return JobInfo(
        id=job_id,
        queue=queue,
        task=value.task,
        status=status,
        policy=value.policy,
        body=value.body,
        note=side.note,
        priority=value.priority,
        delivery=last.number,
        retries=side.retries,
        crashes=side.crashes,
        enqueued_ms=value.enqueued_ms,
        run_at_ms=side.due_ms,
        started_ms=last.started_ms,
        worker_id=last.worker_id,
        quarantined=place == b"q",
        cancel_asked=bool(stop),
    )


def record_info(job_id: str, queue: str, raw: bytes) -> tuple[JobInfo, bool]:
    """A finished job, and whether a result of it is kept beside the record.

    Raises:
        struct.error: the bytes are no record.
        KeyError: as well.
    """
    letter, finished, content_size = _record.unpack_from(raw)
    side, end = _unpack_side(raw, _record.size)
    value_at = end + max(content_size, 0)
    value = _unpack_value(raw, value_at)
    last = _last_delivery(side.lease)
    status = _STATUS[letter]
    info = JobInfo(
        id=job_id,
        queue=queue,
        task=value.task,
        status=status,
        policy=value.policy,
        body=None if status == "completed" else value.body,
        note=side.note,
        priority=value.priority,
        delivery=last.number,
        retries=side.retries,
        crashes=side.crashes,
        enqueued_ms=value.enqueued_ms,
        run_at_ms=side.due_ms,
        started_ms=last.started_ms,
        completed_ms=int(finished),
        worker_id=last.worker_id,
        content_type=raw[end:value_at].decode("utf-8", "replace") if content_size >= 0 else None,
    )
    return info, content_size != -1


def split_token(token: Token) -> tuple[bytes, str] | None:
    """Lease and queue; None when the bytes are no token of this broker."""
    if len(token) < LEASE_SIZE:
        return None
    try:
        return token[:LEASE_SIZE], token[LEASE_SIZE:].decode()
    except UnicodeDecodeError:
        return None
