"""Leases: renewing them, rescuing what they lost; promoting what is due, trimming what is old."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from aioq.plugins import PRIORITY_HEAD_START_MS, Renewed, Token, Upkeep
from aioq_postgres._connect import Connection
from aioq_postgres._records import RECORD, fetch_recording
from aioq_postgres._rows import SAME, STATUS, split_token
from aioq_postgres._sql import LOWEST, UPKEEP_LOCK, Texts

__all__ = ["fold", "renew", "upkeep"]

PRODUCER_TTL_MS: Final = 3_600_000
WORKER_TTL_MS: Final = 3_600_000
CLOCK_SLACK_MS: Final = 5_000
STAMP_EVERY_MS: Final = 1_000
FOLD_AT_MOST: Final = 10_000

# After a gap (an outage, a clock that was set) the living get one lease's time to renew. A clock
# set back leaves leases that would outlast their dead owners: they are cut.
#
# All workers write the one row of the stamp, and each holds it until its commit. So it is written
# once a second at most, and last: nothing refers to `stamped`, and of such parts the first one is
# carried out after all others. Whoever has to wait all the same (the row was locked, the server was
# stopped) stamps the time of the writing, not the one at which the statement began.
_STAMP: Final = f"""
with c as materialized (
    select now_ms() as now, (select last from aioq.stamp where only_one) as before
), stamped as (
    update aioq.stamp set last = now_ms(), rescue_after = case
        when abs(now_ms() - last) > $1::bigint / 2 then now_ms() + $1 else rescue_after
    end
    where only_one
        and (last is null or abs(now_ms() - last) > least({STAMP_EVERY_MS}, $1::bigint / 8))
), cut as (
    update aioq.job set lease_until = c.now + $1 from c
    where (select before - now > {CLOCK_SLACK_MS} from c)
        and state = 4 and queue >= '' and lease_until > c.now + $1
)"""

# Rows that another statement holds are skipped, or renewals and settlements of the same rows on two
# connections would wait for each other in a circle. A row that is merely held is not lost: only a
# token that the snapshot does not hold is.
_RENEW: Final = (
    _STAMP
    + f"""
, i as materialized (
    select * from unnest($2::uuid[], $3::integer[], $4::uuid[], $5::bigint[])
        with ordinality as i (id, delivery, owner, enqueued, place)
), held as materialized (
    select place, job.id, cancel_asked from i join aioq.job on {SAME}
    where job.id = any($2) and state = 4 and job.delivery = i.delivery and job.owner = i.owner
), mine as materialized (
    select job.id from aioq.job join i on {SAME}
    where job.id = any($2) and state = 4 and job.delivery = i.delivery and job.owner = i.owner
    for update of job skip locked
), extended as (
    update aioq.job set lease_until = c.now + $1 from c
    where job.id = any(array(select id from mine))
)
select place, cancel_asked from held
"""
)

_DIES: Final = "(cancel_asked or suspect and crashes + 1 >= $4::integer)"
_BACK_OFF: Final = "case when crashes + 1 = 3 then 10000 else 60000 end"

# $2 queues, $3 budget, $4 max_crashes, $5 how long to keep records, $6 the lowest instant, $7 the
# schema. What concerns all queues is done by one of all workers at a time: the others would look at
# the same rows, and wait for it.
# The rescue locks a row, tests it and changes it as one version; a rescuer that only read first
# would take back what was settled in between.
_UPKEEP: Final = (
    _STAMP
    + f"""
, due as materialized (
    select head.id from c, unnest($2::text[]) as q (name), lateral (
        select id from aioq.job
        where state = 1 and queue = q.name and run_at >= $6::bigint and run_at <= c.now
        order by run_at limit $3::integer for update skip locked
    ) head limit $3
), promoted as (
    update aioq.job set state = case when crashes >= 2 then 5 else 0 end
    where id = any(array(select id from due)) returning queue
), lone as materialized (
    select pg_try_advisory_xact_lock({UPKEEP_LOCK}, hashtext($7)) as may
), calm as materialized (
    select now >= rescue_after and abs(now - coalesce(last, now)) <= $1 / 2 as may
    from c, aioq.stamp where only_one
), expired as materialized (
    select id from aioq.job
    where (select may from lone) and (select may from calm)
        and state = 4 and queue >= '' and lease_until < (select now from c)
    limit $3 for update skip locked
), gone as (
    delete from aioq.job where id = any(array(select id from expired)) and {_DIES}
    returning job.*, case when cancel_asked then {STATUS["cancelled"]} else {STATUS["dead"]} end
        as status
), kept as (
    insert into aioq.job_done ({RECORD})
    select id, queue, task, status, run_at, priority, delivery, retries, crashes + 1, owner, ended,
        created_at, started_at, now, policy, body, note, null, null
    from gone, c
), rescued as (
    update aioq.job set
        crashes = crashes + 1, lease_until = null,
        state = case when crashes >= 2 then 1 when crashes = 1 then 5 else 0 end,
        run_at = case when crashes >= 2 then c.now + {_BACK_OFF} else run_at end,
        sort_key = case when crashes >= 2
            then c.now + {_BACK_OFF} - priority::bigint * {PRIORITY_HEAD_START_MS}
            else sort_key end
    from c where id = any(array(select id from expired)) and not {_DIES}
    returning queue
), trimmed as (
    delete from aioq.job_done where id = any(array(
        select id from aioq.job_done
        where (select may from lone) and result is null and finished_at >= $6
            and finished_at < (select now from c) - $5::bigint
        order by finished_at limit $3 for update skip locked
    )) returning queue, status
), counted as (
    insert into aioq.tally (queue, status, number)
    select queue, status, sum(number) from (
        select queue, status, 1 as number from gone
        union all
        select queue, status, -1 from trimmed
    ) n group by queue, status
), producers as (
    delete from aioq.producer where ctid = any(array(
        select ctid from aioq.producer
        where (select may from lone) and used_at < (select now from c) - {PRODUCER_TTL_MS}
        for update skip locked
    ))
), workers as (
    delete from aioq.worker where id = any(array(
        select id from aioq.worker
        where (select may from lone) and seen_at < (select now from c) - {WORKER_TTL_MS}
        for update skip locked
    ))
)
select (select count(*) from promoted), (select count(*) from rescued),
    (select count(*) from gone), (select count(*) from gone where status = {STATUS["dead"]}),
    (select count(*) from trimmed), array(select distinct queue from rescued),
    array(
        select queue from promoted
        union
        select q.name from unnest($2) as q (name), lateral (
            select from aioq.job
            where state = 0 and queue = q.name and sort_key >= $6
            order by sort_key, id limit 1
        ) head
        where not exists (select from aioq.queue where queue.name = q.name and paused)
    )
"""
)

_FOLD: Final = """
with t as (
    delete from aioq.tally where ctid = any(array(
        select ctid from aioq.tally limit $1 for update skip locked
    )) returning *
), folded as (
    insert into aioq.tally (queue, status, number)
    select queue, status, sum(number) from t group by queue, status having sum(number) <> 0
    returning 1
)
select (select count(*) from t), (select count(*) from folded)
"""


class Kept(NamedTuple):
    """What upkeep did, queues that got rescued jobs, and those of its own where jobs are ready."""

    done: Upkeep
    rescued: list[str]
    waiting: list[str]


async def renew(
    connection: Connection, texts: Texts, tokens: Sequence[Token], lease_ms: int
) -> Renewed:
    """As ``BaseBroker.renew``."""
    parts = [(token, split) for token in tokens if (split := split_token(token)) is not None]
    rows = await connection.fetch(
        texts(_RENEW),
        lease_ms,
        [split[0] for _, split in parts],
        [split[1] for _, split in parts],
        [split[2] for _, split in parts],
        [split[3] for _, split in parts],
    )
    held: dict[Token, bool] = {parts[row[0] - 1][0]: row[1] for row in rows}
    return Renewed(
        [token for token in tokens if token not in held],
        [token for token in tokens if held.get(token)],
    )


async def upkeep(
    connection: Connection,
    texts: Texts,
    queues: Sequence[str],
    lease_ms: int,
    budget: int,
    max_crashes: int,
    keep_ms: int,
) -> Kept:
    """As ``BaseBroker.upkeep``."""
    names = list(dict.fromkeys(queues))
    values = (lease_ms, names, budget, max_crashes, keep_ms, LOWEST, texts.schema)
    (row,) = await fetch_recording(connection, texts, _UPKEEP, *values, ids=None)
    promoted, rescued, gone, died, trimmed, work, waiting = row
    rescued += gone
    more = budget in (promoted, rescued, trimmed)
    return Kept(Upkeep(promoted, rescued, died, trimmed, more), work, waiting)


async def fold(connection: Connection, texts: Texts) -> bool:
    """Fold rows of the tally together; whether there may be more that is worth it."""
    ((taken, left),) = await connection.fetch(texts(_FOLD), FOLD_AT_MOST)
    # with thousands of queues most rows have nothing to be folded with
    return bool(taken == FOLD_AT_MOST and left <= taken // 2)
