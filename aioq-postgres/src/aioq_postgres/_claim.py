"""Handing out jobs."""

import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from aioq.plugins import Claimed, Delivery
from aioq_postgres._connect import Connection
from aioq_postgres._marks import Marks
from aioq_postgres._rows import make_token, need_id
from aioq_postgres._sql import LOWEST_SQL, Texts

__all__ = ["claim"]

PROMOTE_AT_MOST: Final = 500

# $1 queues in order, $2 limit, $3 worker, $4 lease, $5 bytes, $6 the sort key to begin at in each
# queue, $7 whether a quarantined job may be given.
#
# Each queue is one arm that walks its own index in order and locks as it goes; the outer limit ends
# the walk, so later queues are not touched when earlier ones gave enough. The arms are put in order
# again, because a join that leaves out paused queues may turn them round. Picked rows are
# materialised: a LIMIT that the planner runs twice would lease more jobs than asked.
_HEAD: Final = f"""
with c as materialized (
    select now_ms() as now{{fast}}
), q as materialized (
    select name, low, place
    from unnest($1::text[], $6::bigint[]) with ordinality as q (name, low, place)
    where not exists (select from aioq.queue where queue.name = q.name and paused)
    order by place
), due as materialized (
    select min(head.run_at) as at from unnest($1::text[]) as w (name), lateral (
        select run_at from aioq.job
        where state = 1 and queue = w.name and run_at >= {LOWEST_SQL}
        order by run_at limit 1
    ) head
)
"""
_READY: Final = """
        select id, sort_key, octet_length(body) as size, false as suspect from aioq.job
        where state = 0 and queue = q.name and sort_key >= q.low
        order by sort_key, id limit $2::integer for update skip locked
"""
_SUSPECT: Final = f"""
        select id, sort_key, octet_length(body) as size, true as suspect from aioq.job
        where state = 5 and queue = q.name and sort_key >= {LOWEST_SQL} and $7
        order by sort_key, id limit 1 for update skip locked
"""
# Nearly always nothing is due and nobody is in quarantine; then this is the whole claim. Otherwise
# nothing is taken: the caller promotes first, and asks again with `_CAREFUL`.
_PLAIN: Final = (
    _HEAD
    + f"""
, go as materialized (
    select coalesce(due.at > c.now, true) and not ($7 and exists (
        select from unnest($1) as w (name), lateral (
            select from aioq.job where state = 5 and queue = w.name and sort_key >= {LOWEST_SQL}
            order by sort_key, id limit 1
        ) head
    )) as plain
    from c, due
), picked as materialized (
    select q.place, head.* from q, lateral ({_READY}) head
    where (select plain from go) limit $2
)"""
)
_CAREFUL: Final = (
    _HEAD
    + f"""
, go as materialized (
    select true as plain
), seen as materialized (
    select q.place, head.* from q, lateral (
        select * from ({_READY}) a union all select * from ({_SUSPECT}) b
    ) head
), picked as materialized (
    select place, id, sort_key, size, suspect from (
        select *, row_number() over (
            partition by suspect order by place, sort_key, id
        ) as turn from seen
    ) s where not suspect or turn = 1
    order by place, sort_key, id limit $2
)"""
)
_TAIL: Final = """
, chosen as materialized (
    select * from (
        select *, row_number() over w as number, sum(size) over w as total from picked
        window w as (order by place, sort_key, id)
    ) o where number = 1 or total <= $5::bigint
), last as materialized (
    select * from chosen order by number desc limit 1
), taken as (
    update aioq.job set
        state = 4, delivery = delivery + 1, suspect = chosen.suspect,
        crashes = crashes - case
            when crashes > 0 and ended = 0 and owner = $3::uuid then 1 else 0
        end,
        owner = $3, ended = 0, lease_until = c.now + $4::bigint, started_at = c.now
    from chosen, c where job.id = chosen.id and job.id = any(array(select id from chosen))
    returning chosen.number, job.*
)
select c.now, go.plain, due.at,
    (select count(*) from chosen) < (select count(*) from picked)
    or (select number from last) = $2 and exists (
        select from last, q, lateral (
            select from aioq.job
            where state = 0 and queue = q.name and sort_key >= q.low
                and (q.place > last.place or (sort_key, id) > (last.sort_key, last.id))
            order by sort_key, id limit 1
        ) head where q.place >= last.place
    ),
    t.number, t.id, t.queue, t.task, t.policy, t.body, t.note, t.delivery, t.retries, t.crashes,
    t.priority, t.suspect, t.created_at, t.run_at, t.sort_key
from c cross join due cross join go left join taken t on true
"""
# A claim that is lost with a crashed server leaves its jobs ready, and the worker's own id fences
# the twin: no need to wait for the disk. Set within the statement's own transaction.
_FAST: Final = ", set_config('synchronous_commit', 'off', true) as fast"

_PROMOTE: Final = f"""
with c as materialized (
    select now_ms() as now
), due as materialized (
    select head.id from c, unnest($1::text[]) as q (name), lateral (
        select id from aioq.job
        where state = 1 and queue = q.name and run_at >= {LOWEST_SQL} and run_at <= c.now
        order by run_at limit $2::integer for update skip locked
    ) head limit $2
)
update aioq.job set state = case when crashes >= 2 then 5 else 0 end
where id = any(array(select id from due))
"""


def statement(*, careful: bool, fast: bool) -> str:
    """The text of a claim."""
    head = _CAREFUL if careful else _PLAIN
    return (head + _TAIL).replace("{fast}", _FAST if fast else "")


_STATEMENTS: Final = {
    (careful, fast): statement(careful=careful, fast=fast)
    for careful in (False, True)
    for fast in (False, True)
}


async def claim(
    connection: Connection,
    texts: Texts,
    queues: Sequence[str],
    limit: int,
    worker: str,
    lease_ms: int,
    max_bytes: int,
    quarantined: bool,
    fast: bool,
    marks: Marks,
) -> Claimed:
    """As ``BaseBroker.claim``."""
    owner = need_id(worker)
    names = list(dict.fromkeys(queues))
    values = (names, max(limit, 0), owner, lease_ms, max_bytes, marks.lows(names), quarantined)
    began = time.monotonic()
    rows = await connection.fetch(texts(_STATEMENTS[False, fast]), *values)
    if not rows[0][1]:
        if rows[0][2] is not None and rows[0][2] <= rows[0][0]:
            await connection.execute(texts(_PROMOTE), names, PROMOTE_AT_MOST)
        rows = await connection.fetch(texts(_STATEMENTS[True, fast]), *values)
    seconds = time.monotonic() - began
    now, _, due, more = rows[0][:4]
    taken = [row for row in rows if row[4] is not None]
    taken.sort(key=_number)
    reached: dict[str, int] = {row[6]: row[18] for row in taken}
    behind = marks.learn(reached, len(taken), limit, seconds)
    return Claimed(
        [_deliver(row, owner, now) for row in taken],
        bool(more) or behind,
        None if due is None else max(0, due - now),
    )


def _number(row: Sequence[Any]) -> int:
    number: int = row[4]
    return number


def _deliver(row: Sequence[Any], owner: UUID, now: int) -> Delivery:
    (
        _,
        _,
        _,
        _,
        _,
        job_id,
        queue,
        task,
        policy,
        body,
        note,
        number,
        retries,
        crashes,
        priority,
        suspect,
        created_at,
        run_at,
        _,
    ) = row
    return Delivery(
        str(job_id),
        queue,
        task,
        make_token(job_id.bytes, number, owner.bytes, created_at),
        policy,
        body,
        note,
        number,
        retries,
        crashes,
        priority,
        suspect,
        created_at,
        run_at,
        now,
    )
