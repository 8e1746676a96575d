"""Ending deliveries."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

from aioq.plugins import FINISHED, PRIORITY_HEAD_START_MS, Settled, Settlement
from aioq_sqlite import _records as records
from aioq_sqlite._due import next_due
from aioq_sqlite._rows import (
    ENDED,
    OPEN,
    QUARANTINED,
    READY,
    RUNNING,
    SCHEDULED,
    STATUS,
    split_token,
)
from aioq_sqlite._tx import Tx, marks, portions

__all__ = ["settle"]

Owned: TypeAlias = tuple[int, Settlement, tuple[bytes, int, bytes, int]]
"""Place in the call, the item, and the parts of its token."""

_COMPLETE = f"""
    insert into job_done ({records.COLUMNS})
    with item (id, delivery, owner, enqueued, result, content_type, note) as (values {{}})
    select job.id, queue, task, {STATUS["completed"]}, run_at, priority, job.delivery, retries,
        crashes, job.owner, 1, created_at, started_at, ?, policy, null,
        coalesce(item.note, job.note), item.result, item.content_type
    from item cross join job on job.id = item.id and job.created_at = item.enqueued
    where job.state = {RUNNING} and job.delivery = item.delivery and job.owner = item.owner
"""
_WIDTH = 7

_LOOK = """
    select seq, state, delivery, owner, ended, cancel_asked, crashes, queue, priority, run_at
    from job where id = ? and created_at = ?
"""
_GIVE_BACK = """
    update job set
        state = :state, run_at = :due, sort_key = iif(:moved, :sort_key, sort_key),
        retries = retries + :retried, ended = 1, note = coalesce(:note, note), lease_until = null
    where seq = :seq
"""


def settle(tx: Tx, settlements: Sequence[Settlement]) -> list[Settled]:
    """As ``BaseBroker.settle``."""
    answers: list[Settled] = ["stale"] * len(settlements)
    completed: list[Owned] = []
    others: list[Owned] = []
    for place, item in enumerate(settlements):
        parts = split_token(item.token)
        if parts is not None:
            (completed if item.kind == "completed" else others).append((place, item, parts))
    for portion in portions(completed):
        if len(portion) > 1 and _complete(tx, portion):
            for place, _, _ in portion:
                answers[place] = "accepted"
        else:
            others += portion
    for place, item, parts in others:
        answers[place] = _settle(tx, item, *parts)
    return answers


def _complete(tx: Tx, items: Sequence[Owned]) -> bool:
    """Complete running jobs, all of them or, when one of them is not what it seems, none."""
    records.begin(tx)
    tx.con.execute("savepoint complete")
    values = list(
        chain.from_iterable(
            (*parts, item.result, item.content_type, item.note) for _, item, parts in items
        )
    )
    try:
        sql = _COMPLETE.format(marks(len(items), _WIDTH))
        done = tx.con.execute(sql, [*values, tx.now]).rowcount
    except sqlite3.IntegrityError:
        done = 0
    if done != len(items):
        tx.con.execute("rollback to complete")
    else:
        ids = [parts[0] for _, _, parts in items]
        tx.con.execute(f"delete from job where id in {marks(1, len(ids))}", ids)
    tx.con.execute("release complete")
    return done == len(items)


def _settle(
    tx: Tx, item: Settlement, job_id: bytes, number: int, owner: bytes, enqueued: int
) -> Settled:
    row = tx.con.execute(_LOOK, (job_id, enqueued)).fetchone()
    if row is None:
        return _look_back(tx, job_id, number, owner, enqueued)
    seq, state, known, known_owner, ended = row[:5]
    if (known, known_owner) == (number, owner):
        if ended != OPEN:
            return "already" if ended == ENDED else "stale"
        if state != RUNNING and item.kind != "completed":
            return "stale"
    elif item.kind == "completed" and known < number and state != RUNNING:
        tx.con.execute("update job set delivery = ?, owner = ? where seq = ?", (number, owner, seq))
    else:
        return "stale"
    _apply(tx, item, row)
    return "accepted"


def _look_back(tx: Tx, job_id: bytes, number: int, owner: bytes, enqueued: int) -> Settled:
    """The answer for a job that is not live: only its record can know the token."""
    ended = tx.con.execute(
        "select 1 from job_done "
        "where id = ? and delivery = ? and owner = ? and created_at = ? and ended = ?",
        (job_id, number, owner, enqueued, ENDED),
    ).fetchone()
    return "already" if ended else "stale"


def _apply(tx: Tx, item: Settlement, row: tuple[Any, ...]) -> None:
    seq, _, _, _, _, cancel_asked, crashes, queue, priority, run_at = row
    if item.kind in FINISHED:
        records.finish(
            tx,
            seq,
            item.kind,
            ended=True,
            note=item.note,
            result=item.result,
            content_type=item.content_type,
        )
        return
    if cancel_asked:
        records.finish(tx, seq, "cancelled", ended=True, note=item.note)
        return
    stays = item.kind == "release" and item.delay_ms <= 0
    due = run_at if stays else tx.now + max(item.delay_ms, 0)
    if due > tx.now:
        state = SCHEDULED
        head = next_due(tx, queue)
        if head is None or due < head:
            tx.work.add(queue)
    else:
        state = QUARANTINED if crashes >= 2 else READY
        tx.work.add(queue)
    tx.con.execute(
        _GIVE_BACK,
        {
            "seq": seq,
            "state": state,
            "due": due,
            "moved": not stays,
            "sort_key": due - priority * PRIORITY_HEAD_START_MS,
            "retried": item.kind == "retry",
            "note": item.note,
        },
    )
