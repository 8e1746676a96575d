"""Putting jobs in."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aioq.errors import BatchRejected
from aioq.plugins import Added, NewJob
from aioq_redis._errors import UNSTORABLE
from aioq_redis._packing import pack_id, pack_value
from aioq_redis._scripts import Script
from aioq_redis._store import Call

__all__ = ["added", "enqueue_calls"]

_plan = struct.Struct(">Bdi")
_NOW, _AFTER, _AT = 0, 1, 2
_STATUS: dict[bytes, Literal["new", "already", "exists"]] = {
    b"n": "new",
    b"a": "already",
    b"e": "exists",
}


def enqueue_calls(
    script: Script, jobs: Sequence[NewJob], producer: bytes, numbers: Mapping[str, int]
) -> list[Call]:
    """One call per queue, in the order in which the queues first occur.

    Raises:
        BatchRejected: an item cannot be stored.
    """
    by_queue: dict[str, list[NewJob]] = {}
    for job in jobs:
        by_queue.setdefault(job.queue, []).append(job)
    try:
        return [
            Call(script, queue, _args(group, producer, numbers[queue]))
            for queue, group in by_queue.items()
        ]
    except UNSTORABLE as exc:
        raise BatchRejected(f"a value cannot be stored: {exc}") from exc


def _args(jobs: Sequence[NewJob], producer: bytes, number: int) -> list[Any]:
    args: list[Any] = [producer, number, len(jobs), b""]
    if any(job.priority or job.delay_ms > 0 or job.at_ms is not None for job in jobs):
        args[3] = b"".join(map(_pack_plan, jobs))
    for job in jobs:
        args.append(pack_id(job.id))
        args.append(pack_value(job))
    return args


def _pack_plan(job: NewJob) -> bytes:
    if job.at_ms is not None:
        return _plan.pack(_AT, job.at_ms, job.priority)
    return _plan.pack(_AFTER if job.delay_ms > 0 else _NOW, job.delay_ms, job.priority)


def added(jobs: Sequence[NewJob], calls: Sequence[Call], replies: Sequence[Any]) -> list[Added]:
    """One answer per job, in the order of the jobs."""
    if len(jobs) == 1:
        ((now, letters),) = replies
        return [Added(_STATUS[letters], now)]
    by_queue: dict[str | None, tuple[int, str]] = {}
    for call, (now, letters) in zip(calls, replies, strict=True):
        by_queue[call.queue] = (now, letters.decode())
    turn = dict.fromkeys(by_queue, 0)
    answers: list[Added] = []
    for job in jobs:
        now, letters = by_queue[job.queue]
        if letters == "a":
            answers.append(Added("already", now))
            continue
        letter = letters[turn[job.queue]]
        turn[job.queue] += 1
        answers.append(Added("new" if letter == "n" else "exists", now))
    return answers
