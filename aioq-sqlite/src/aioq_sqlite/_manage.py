"""Cancelling, requeueing and deleting jobs, pausing queues, and the registry of workers."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

import json
from collections.abc import Sequence

from aioq.plugins import PRIORITY_HEAD_START_MS, CancelAnswer, Filter, WorkerInfo
from aioq_sqlite import _records as records
from aioq_sqlite._look import still_matching
from aioq_sqlite._rows import DISOWNED, READY, RUNNING, find_id, make_token, need_id, to_text
from aioq_sqlite._tx import Tx

__all__ = ["beat", "cancel", "delete", "delete_if", "forget", "requeue", "set_paused", "workers"]

ALIVE_MS = 60_000

_REQUEUE = f"""
    insert into job (id, queue, task, state, sort_key, run_at, priority, delivery, owner, ended,
        created_at, started_at, policy, body)
    select id, queue, task, {READY}, :now - priority * {PRIORITY_HEAD_START_MS}, :now, priority,
        delivery, owner, iif(ended, ended, {DISOWNED}), created_at, started_at, policy, body
    from job_done where id = :id and status > 10 and body is not null
    on conflict do nothing
"""


def cancel(tx: Tx, job_ids: Sequence[str]) -> list[CancelAnswer]:
    """As ``BaseBroker.cancel``."""
    return [_cancel(tx, find_id(job_id)) for job_id in job_ids]


def _cancel(tx: Tx, job_id: bytes | None) -> CancelAnswer:
    if job_id is None:
        return "absent"
    row = tx.con.execute(
        "select seq, state, delivery, owner, created_at from job where id = ?", (job_id,)
    ).fetchone()
    if row is None:
        done = tx.con.execute("select 1 from job_done where id = ?", (job_id,)).fetchone()
        return "finished" if done else "absent"
    seq, state, number, owner, created_at = row
    if state != RUNNING:
        records.finish(tx, seq, "cancelled")
        return "cancelled"
    tx.con.execute("update job set cancel_asked = 1 where seq = ?", (seq,))
    tx.cancels.setdefault(owner, []).append(make_token(job_id, number, owner, created_at))
    return "asked"


def requeue(tx: Tx, job_ids: Sequence[str]) -> list[bool]:
    """As ``BaseBroker.requeue``."""
    return [_requeue(tx, find_id(job_id)) for job_id in job_ids]


def _requeue(tx: Tx, job_id: bytes | None) -> bool:
    if job_id is None or tx.con.execute(_REQUEUE, {"now": tx.now, "id": job_id}).rowcount == 0:
        return False
    (queue,) = tx.con.execute("select queue from job where id = ?", (job_id,)).fetchone()
    records.remove(tx, [job_id])
    tx.work.add(queue)
    return True


def delete(tx: Tx, job_ids: Sequence[str]) -> list[bool]:
    """As ``BaseBroker.delete``."""
    ids = [find_id(job_id) for job_id in job_ids]
    return [job_id is not None and _delete(tx, job_id) for job_id in ids]


def delete_if(tx: Tx, ids: Sequence[bytes], where: Filter) -> int:
    """Remove those of the jobs that still fit the filter and do not run; how many they were."""
    return sum(_delete(tx, job_id) for job_id in still_matching(tx, where, ids))


def _delete(tx: Tx, job_id: bytes) -> bool:
    row = tx.con.execute("select state from job where id = ?", (job_id,)).fetchone()
    if row is None:
        return records.remove(tx, [job_id]) > 0
    if row[0] == RUNNING:
        return False
    tx.con.execute("delete from job where id = ?", (job_id,))
    records.remove(tx, [job_id])
    return True


def set_paused(tx: Tx, queue: str, paused: bool) -> None:
    """As ``BaseBroker.set_paused``."""
    tx.con.execute(
        "insert into queue values (?, ?) on conflict (name) do update set paused = excluded.paused",
        (queue, paused),
    )
    if not paused:
        tx.work.add(queue)


def beat(tx: Tx, worker: WorkerInfo) -> None:
    """As ``BaseBroker.beat``."""
    tx.con.execute(
        "insert or replace into worker values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            need_id(worker.id),
            tx.now,
            worker.hostname,
            worker.pid,
            json.dumps(worker.queues),
            worker.concurrency,
            worker.version,
            worker.running,
            worker.uptime,
        ),
    )


def forget(tx: Tx, worker_id: str) -> None:
    """As ``BaseBroker.forget``."""
    tx.con.execute("delete from worker where id = ?", (find_id(worker_id),))


def workers(tx: Tx) -> list[WorkerInfo]:
    """As ``BaseBroker.workers``."""
    rows = tx.con.execute(
        "select id, hostname, pid, queues, concurrency, version, running, uptime, seen_at "
        "from worker where seen_at > ? order by hostname, pid",
        (tx.now - ALIVE_MS,),
    )
    return [
        WorkerInfo._make(
            (
                to_text(row[0]),
                *row[1:3],
                tuple(json.loads(row[3])),
                *row[4:8],
                max(0, tx.now - row[8]) / 1000,
            )
        )
        for row in rows
    ]
