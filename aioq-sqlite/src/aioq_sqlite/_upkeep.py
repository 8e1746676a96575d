"""Leases: renewing them, rescuing what they lost; promoting what is due, trimming what is old."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

import json
from collections.abc import Sequence
from typing import Any

from aioq.plugins import PRIORITY_HEAD_START_MS, Renewed, Token, Upkeep
from aioq_sqlite import _records as records
from aioq_sqlite._due import promote
from aioq_sqlite._rows import QUARANTINED, READY, RUNNING, SCHEDULED, split_token
from aioq_sqlite._tx import Tx, marks, portions

__all__ = ["renew", "upkeep"]

PRODUCER_TTL_MS = 3_600_000
WORKER_TTL_MS = 3_600_000
CLOCK_SLACK_MS = 5_000
BACK_OFF_MS = 10_000
LONGER_BACK_OFF_MS = 60_000

_OWNED = f"""
    with item (id, delivery, owner, enqueued) as (values {{}})
    select job.id, job.delivery, job.owner, job.created_at, job.seq, job.cancel_asked
    from item cross join job on job.id = item.id and job.created_at = item.enqueued
    where job.state = {RUNNING} and job.delivery = item.delivery and job.owner = item.owner
"""
_EXTEND = "update job set lease_until = ? where seq in (select value from json_each(?))"
_EXPIRED = f"""
    select seq, crashes, suspect, cancel_asked, queue, priority
    from job indexed by job_running
    where state = {RUNNING} and lease_until < ? order by lease_until limit ?
"""
_TO_WAIT = "update job set state = ?, crashes = ?, lease_until = null where seq = ?"
_TO_SCHEDULED = f"""
    update job set state = {SCHEDULED}, crashes = ?, lease_until = null, run_at = ?, sort_key = ?
    where seq = ?
"""
_WITH_DUE = f"""
    select name from queue where exists (
        select 1 from job indexed by job_due
        where state = {SCHEDULED} and job.queue = queue.name and run_at <= ?
    )
"""
_OLD = """
    select seq from job_done indexed by job_done_prune
    where result is null and finished_at < ? order by finished_at limit ?
"""
_UNUSED = """
    delete from producer where (nonce, queue) in (
        select nonce, queue from producer where used_at < ? order by used_at limit ?
    )
"""


def renew(tx: Tx, tokens: Sequence[Token], lease_ms: int) -> Renewed:
    """As ``BaseBroker.renew``."""
    _stamp(tx, lease_ms)
    parts = {token: split for token in tokens if (split := split_token(token)) is not None}
    owned: dict[tuple[bytes, int, bytes, int], tuple[int, int]] = {}
    for portion in portions(list(parts.values())):
        values = [value for split in portion for value in split]
        for row in tx.con.execute(_OWNED.format(marks(len(portion), 4)), values):
            owned[row[:4]] = row[4:]
    numbers = json.dumps([seq for seq, _ in owned.values()])
    tx.con.execute(_EXTEND, (tx.now + lease_ms, numbers))
    lost: list[Token] = []
    cancelled: list[Token] = []
    for token in tokens:
        found = owned.get(parts[token]) if token in parts else None
        if found is None:
            lost.append(token)
        elif found[1]:
            cancelled.append(token)
    return Renewed(lost, cancelled)


def upkeep(tx: Tx, lease_ms: int, budget: int, max_crashes: int, keep_ms: int) -> Upkeep:
    """As ``BaseBroker.upkeep``, for all queues."""
    rescue_after = _stamp(tx, lease_ms)
    promoted = _promote(tx, budget)
    rescued = died = 0
    if tx.now >= rescue_after:
        for row in tx.con.execute(_EXPIRED, (tx.now, budget)).fetchall():
            rescued += 1
            died += _rescue(tx, row, max_crashes)
    trimmed = _trim(tx, tx.now - keep_ms, budget)
    return Upkeep(promoted, rescued, died, trimmed, budget in (promoted, rescued, trimmed))


def _stamp(tx: Tx, lease_ms: int) -> int:
    """Note that the store is being looked after; the instant before which none may be rescued.

    After a gap (an outage, a host that slept, a clock set forward) the living get one lease's time
    to renew. A clock set back leaves leases that would outlast their dead owners: they are cut.
    """
    last, rescue_after = tx.con.execute("select last, rescue_after from stamp").fetchone()
    until = tx.now + lease_ms
    if last is not None and last - tx.now > CLOCK_SLACK_MS:
        tx.con.execute(
            f"update job set lease_until = :until where state = {RUNNING} and lease_until > :until",
            {"until": until},
        )
        rescue_after = until
    elif last is not None and tx.now - last > lease_ms / 2:
        rescue_after = until
    tx.con.execute("update stamp set last = ?, rescue_after = ?", (tx.now, rescue_after))
    return int(rescue_after)


def _promote(tx: Tx, budget: int) -> int:
    done = 0
    for (queue,) in tx.con.execute(_WITH_DUE, (tx.now,)).fetchall():
        if done < budget:
            done += promote(tx, queue, budget - done)
            tx.work.add(queue)
    return done


def _rescue(tx: Tx, row: tuple[Any, ...], max_crashes: int) -> bool:
    """Take a job from a worker that let its lease expire; True when that was its death."""
    seq, crashes, suspect, cancel_asked, queue, priority = row
    crashes += 1
    if cancel_asked or (suspect and crashes >= max_crashes):
        tx.con.execute("update job set crashes = ? where seq = ?", (crashes, seq))
        records.finish(tx, seq, "cancelled" if cancel_asked else "dead")
        return not cancel_asked
    if crashes >= 3:
        due = tx.now + (BACK_OFF_MS if crashes == 3 else LONGER_BACK_OFF_MS)
        sort_key = due - priority * PRIORITY_HEAD_START_MS
        tx.con.execute(_TO_SCHEDULED, (crashes, due, sort_key, seq))
    else:
        tx.con.execute(_TO_WAIT, (QUARANTINED if crashes >= 2 else READY, crashes, seq))
    # Also for one that has to wait: a worker that knows when it is due will take it then.
    tx.work.add(queue)
    return False


def _trim(tx: Tx, before: int, budget: int) -> int:
    old = [seq for (seq,) in tx.con.execute(_OLD, (before, budget))]
    if old:
        records.remove_numbered(tx, old)
    tx.con.execute(_UNUSED, (tx.now - PRODUCER_TTL_MS, budget))
    tx.con.execute("delete from worker where seen_at < ?", (tx.now - WORKER_TTL_MS,))
    return len(old)
