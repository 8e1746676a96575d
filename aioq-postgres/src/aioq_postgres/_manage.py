"""Cancelling, requeueing and deleting jobs, pausing queues, and the registry of workers."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from aioq.errors import BrokerUnavailable
from aioq.plugins import PRIORITY_HEAD_START_MS, CancelAnswer, Token, WorkerInfo
from aioq_postgres._connect import Connection
from aioq_postgres._records import RECORD, fetch_recording
from aioq_postgres._rows import COMPLETED, STATUS, find_id, make_token, need_id
from aioq_postgres._sql import Texts

__all__ = ["beat", "cancel", "delete", "forget", "requeue", "set_paused", "workers"]

ALIVE_MS: Final = 60_000
ROUNDS: Final = 10

_CANCEL: Final = f"""
with c as materialized (
    select now_ms() as now
), w as materialized (
    select distinct id from unnest($1::uuid[]) as w (id)
), gone as (
    delete from aioq.job where id = any($1) and state <> 4
    returning job.*
), kept as (
    insert into aioq.job_done ({RECORD})
    select id, queue, task, {STATUS["cancelled"]}, run_at, priority, delivery, retries, crashes,
        owner, ended, created_at, started_at, now, policy, body, note, null, null
    from gone, c
), counted as (
    insert into aioq.tally (queue, status, number)
    select queue, {STATUS["cancelled"]}, count(*) from gone group by queue
), asked as (
    update aioq.job set cancel_asked = true where id = any($1) and state = 4
    returning job.id, delivery, owner, created_at
)
select id, 'cancelled', 0, null::uuid, 0::bigint from gone
union all
select id, 'asked', delivery, owner, created_at from asked
union all
select w.id, case when job.id is not null then 'live' else 'finished' end, 0, null, 0
from w left join aioq.job on job.id = w.id and job.id = any($1)
where job.id is not null or exists (select from aioq.job_done where job_done.id = w.id)
"""
_REQUEUE: Final = f"""
with c as materialized (
    select now_ms() as now
), old as (
    delete from aioq.job_done
    where id = any($1::uuid[]) and status > {COMPLETED} and body is not null
        and not exists (select from aioq.job where job.id = job_done.id)
    returning *
), stored as (
    insert into aioq.job (id, queue, task, state, sort_key, run_at, priority, delivery, owner,
        ended, created_at, started_at, policy, body)
    select id, queue, task, 0, now - priority::bigint * {PRIORITY_HEAD_START_MS}, now, priority,
        delivery, owner, case when ended = 0 then 2 else ended end, created_at, started_at, policy,
        body
    from old, c on conflict do nothing
    returning id
), counted as (
    insert into aioq.tally (queue, status, number)
    select queue, status, -count(*) from old group by queue, status
)
select stored.id, old.queue from stored join old on old.id = stored.id
"""
_DELETE: Final = """
with gone as (
    delete from aioq.job where id = any($1::uuid[]) and state <> 4 returning id
), old as (
    delete from aioq.job_done where id = any($1) and not exists (
        select from aioq.job where job.id = job_done.id and state = 4
    ) returning id, queue, status
), counted as (
    insert into aioq.tally (queue, status, number)
    select queue, status, -count(*) from old group by queue, status
)
select id from gone union select id from old
"""
_PAUSE: Final = """
insert into aioq.queue (name, paused) values ($1, $2)
on conflict (name) do update set paused = excluded.paused
"""
_BEAT: Final = """
insert into aioq.worker
    (id, seen_at, hostname, pid, queues, concurrency, version, running, uptime)
values ($1, now_ms(), $2, $3, $4, $5, $6, $7, $8)
on conflict (id) do update set seen_at = excluded.seen_at, hostname = excluded.hostname,
    pid = excluded.pid, queues = excluded.queues, concurrency = excluded.concurrency,
    version = excluded.version, running = excluded.running, uptime = excluded.uptime
"""
_WORKERS: Final = f"""
select id, hostname, pid, queues, concurrency, version, running, uptime, now_ms() - seen_at
from aioq.worker where seen_at > now_ms() - {ALIVE_MS} order by hostname, pid
"""


async def cancel(
    connection: Connection, texts: Texts, job_ids: Sequence[str]
) -> tuple[list[CancelAnswer], list[Token]]:
    """As ``BaseBroker.cancel``; and the tokens of the deliveries that should stop."""
    wanted = [find_id(job_id) for job_id in job_ids]
    answers: dict[UUID, CancelAnswer] = {}
    tokens: list[Token] = []
    open_ids = sorted({raw for raw in wanted if raw is not None})
    for _ in range(ROUNDS):
        rows = await fetch_recording(connection, texts, _CANCEL, open_ids, ids=open_ids)
        live: set[UUID] = set()
        for job_id, answer, number, owner, created_at in rows:
            if answer == "live":
                live.add(job_id)
            elif answer == "finished":
                answers.setdefault(job_id, "finished")
            else:
                answers[job_id] = answer
                if answer == "asked":
                    tokens.append(make_token(job_id.bytes, number, owner.bytes, created_at))
        # What was handed out or given back while this waited for its lock is asked again.
        open_ids = sorted(live - answers.keys())
        if not open_ids:
            absent: CancelAnswer = "absent"
            return [absent if raw is None else answers.get(raw, absent) for raw in wanted], tokens
    raise BrokerUnavailable(
        f"job {open_ids[0]} changed again and again while it was cancelled: try again"
    )


async def requeue(
    connection: Connection, texts: Texts, job_ids: Sequence[str]
) -> tuple[list[bool], list[str]]:
    """As ``BaseBroker.requeue``; and the queues that got work."""
    wanted = [find_id(job_id) for job_id in job_ids]
    ids = sorted({raw for raw in wanted if raw is not None})
    rows = await connection.fetch(texts(_REQUEUE), ids)
    return _each_once(wanted, {row[0] for row in rows}), sorted({row[1] for row in rows})


async def delete(connection: Connection, texts: Texts, job_ids: Sequence[str]) -> list[bool]:
    """As ``BaseBroker.delete``."""
    wanted = [find_id(job_id) for job_id in job_ids]
    ids = sorted({raw for raw in wanted if raw is not None})
    rows = await connection.fetch(texts(_DELETE), ids)
    return _each_once(wanted, {row[0] for row in rows})


def _each_once(wanted: Sequence[UUID | None], done: set[UUID]) -> list[bool]:
    """Of an id that was given twice, the second finds nothing left to do."""
    answers: list[bool] = []
    for raw in wanted:
        answers.append(raw in done)
        if raw is not None:
            done.discard(raw)
    return answers


async def set_paused(connection: Connection, texts: Texts, queue: str, paused: bool) -> None:
    """As ``BaseBroker.set_paused``."""
    await connection.execute(texts(_PAUSE), queue, paused)


async def beat(connection: Connection, texts: Texts, worker: WorkerInfo) -> None:
    """As ``BaseBroker.beat``."""
    await connection.execute(
        texts(_BEAT),
        need_id(worker.id),
        worker.hostname,
        worker.pid,
        list(worker.queues),
        worker.concurrency,
        worker.version,
        worker.running,
        worker.uptime,
    )


async def forget(connection: Connection, texts: Texts, worker_id: str) -> None:
    """As ``BaseBroker.forget``."""
    await connection.execute(texts("delete from aioq.worker where id = $1"), find_id(worker_id))


async def workers(connection: Connection, texts: Texts) -> list[WorkerInfo]:
    """As ``BaseBroker.workers``."""
    return [
        WorkerInfo(
            id=str(row[0]),
            hostname=row[1],
            pid=row[2],
            queues=tuple(row[3]),
            concurrency=row[4],
            version=row[5],
            running=row[6],
            uptime=row[7],
            seen_ago=max(0, row[8]) / 1000,
        )
        for row in await connection.fetch(texts(_WORKERS))
    ]
