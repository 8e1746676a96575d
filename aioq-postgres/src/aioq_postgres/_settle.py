"""Ending deliveries."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from aioq.errors import BrokerUnavailable
from aioq.plugins import PRIORITY_HEAD_START_MS, Settled, SettleKind, Settlement
from aioq_postgres._connect import Connection
from aioq_postgres._records import RECORD, fetch_recording
from aioq_postgres._rows import COMPLETED, SAME, STATUS, split_token
from aioq_postgres._sql import SOON_MS, Texts

__all__ = ["Ended", "settle"]

_KINDS: Final[dict[SettleKind, int]] = {
    "retry": 0,
    "snooze": 1,
    "release": 2,
    "completed": STATUS["completed"],
    "failed": STATUS["failed"],
    "cancelled": STATUS["cancelled"],
    "dead": STATUS["dead"],
}

_OWNED: Final = "job.delivery = i.delivery and job.owner = i.owner"
# Also what was rescued and not handed out again, and a claim that the store has forgotten.
_COMPLETABLE: Final = (
    f"({_OWNED} and job.ended = 0 or job.state <> 4 and job.delivery < i.delivery)"
)

_COMPLETE: Final = f"""
with c as materialized (
    select now_ms() as now
), i as materialized (
    select * from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bigint[])
        with ordinality as i (id, delivery, owner, enqueued, place)
), gone as (
    delete from aioq.job using i where {SAME} and job.id = any($1) and {_COMPLETABLE}
    returning job.id, queue, task, run_at, priority, retries, crashes, created_at, started_at,
        policy, note, i.delivery, i.owner, place
), kept as (
    insert into aioq.job_done ({RECORD})
    select id, queue, task, {COMPLETED}, run_at, priority, delivery, retries, crashes, owner, 1,
        created_at, started_at, now, policy, null, note, null, null
    from gone, c
), counted as (
    insert into aioq.tally (queue, status, number)
    select queue, {COMPLETED}, count(*) from gone group by queue
)
select array(select place from gone)
"""

_STAYS: Final = "i.kind = 2 and i.delay <= 0"
_DUE: Final = f"case when {_STAYS} then job.run_at else c.now + greatest(i.delay, 0) end"
_CANCELLED: Final = STATUS["cancelled"]

_SETTLE: Final = f"""
with c as materialized (
    select now_ms() as now
), i as materialized (
    select * from unnest(
        $1::uuid[], $2::integer[], $3::uuid[], $4::bigint[], $5::smallint[], $6::bigint[],
        $7::bytea[], $8::text[], $9::bytea[]
    ) with ordinality as i (
        id, delivery, owner, enqueued, kind, delay, result, content_type, new_note, place
    )
), gone as (
    delete from aioq.job using i
    where {SAME} and job.id = any($1) and (
        i.kind = {COMPLETED} and {_COMPLETABLE}
        or job.state = 4 and {_OWNED}
            and (i.kind > {COMPLETED} or i.kind < {COMPLETED} and job.cancel_asked)
    )
    returning job.id, queue, task, run_at, priority, retries, crashes, created_at, started_at,
        policy, case when i.kind <> {COMPLETED} then body end as body,
        coalesce(new_note, note) as note, i.delivery, i.owner, place,
        case when i.kind < {COMPLETED} then {_CANCELLED} else i.kind end as status,
        case when i.kind >= {COMPLETED} then result end as result,
        case when i.kind >= {COMPLETED} then content_type end as content_type
), kept as (
    insert into aioq.job_done ({RECORD})
    select id, queue, task, status, run_at, priority, delivery, retries, crashes, owner, 1,
        created_at, started_at, now, policy, body, note, result, content_type
    from gone, c
), counted as (
    insert into aioq.tally (queue, status, number)
    select queue, status, count(*) from gone group by queue, status
), given_back as (
    update aioq.job set
        state = case
            when {_DUE} > c.now then 1
            when crashes >= 2 then 5
            else 0
        end,
        run_at = {_DUE},
        sort_key = case
            when {_STAYS} then sort_key
            else {_DUE} - priority::bigint * {PRIORITY_HEAD_START_MS}
        end,
        retries = retries + case when i.kind = 0 then 1 else 0 end,
        ended = 1, lease_until = null, note = coalesce(i.new_note, note)
    from i, c
    where {SAME} and job.id = any($1) and i.kind < {COMPLETED} and job.state = 4 and {_OWNED}
        and not job.cancel_asked
    returning place, queue, run_at
)
select array(select place from gone union all select place from given_back),
    array(select distinct queue from given_back, c where run_at <= now + {SOON_MS})
"""

# What the settlement did not touch: ended before, overtaken, or changed while it waited for a lock
# (a cancel that came in between), in which case it is tried again.
_LOOK_BACK: Final = f"""
select place,
    case when job.id is not null then job.ended = 1 and {_OWNED} else exists (
        select from aioq.job_done k
        where k.id = i.id and k.created_at = i.enqueued and k.delivery = i.delivery
            and k.owner = i.owner and k.ended = 1
    ) end,
    job.id is not null and (i.completes and {_COMPLETABLE} or job.state = 4 and {_OWNED})
from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bigint[], $5::boolean[])
    with ordinality as i (id, delivery, owner, enqueued, completes, place)
left join aioq.job on {SAME} and job.id = any($1)
"""

ROUNDS: Final = 5


class _Item(NamedTuple):
    place: int
    id: UUID
    delivery: int
    owner: UUID
    enqueued_ms: int
    settlement: Settlement


class Ended(NamedTuple):
    """The answers, and queues that got jobs back which are due now or soon."""

    answers: list[Settled]
    work: list[str]


async def settle(connection: Connection, texts: Texts, settlements: Sequence[Settlement]) -> Ended:
    """As ``BaseBroker.settle``."""
    ended = Ended(["stale"] * len(settlements), [])
    items: list[_Item] = []
    for place, settlement in enumerate(settlements):
        parts = split_token(settlement.token)
        if parts is not None:
            items.append(_Item(place, *parts, settlement))
    # All batches lock their rows in the order of the ids.
    items.sort(key=lambda item: item.id)
    while items:
        batch, items = _one_per_job(items)
        await _settle(connection, texts, batch, ended)
    return ended


def _one_per_job(items: list[_Item]) -> tuple[list[_Item], list[_Item]]:
    """The first item of each job, and the rest: outcomes of one job are applied one by one."""
    if len({item.id for item in items}) == len(items):
        return items, []
    batch: dict[UUID, _Item] = {}
    rest: list[_Item] = []
    for item in items:
        if item.id in batch:
            rest.append(item)
        else:
            batch[item.id] = item
    return list(batch.values()), rest


async def _settle(connection: Connection, texts: Texts, items: list[_Item], ended: Ended) -> None:
    for _ in range(ROUNDS):
        done = await _apply(connection, texts, items, ended)
        for place in done:
            ended.answers[items[place - 1].place] = "accepted"
        if len(done) == len(items):
            return
        applied = set(done)
        items = [item for place, item in enumerate(items, 1) if place not in applied]
        rows = await connection.fetch(
            texts(_LOOK_BACK),
            *_keys(items),
            [item.settlement.kind == "completed" for item in items],
        )
        again: list[_Item] = []
        for row in rows:
            number: int = row[0]
            already, still_open = row[1:]
            item = items[number - 1]
            if still_open:
                again.append(item)
            elif already:
                ended.answers[item.place] = "already"
        if not again:
            return
        items = sorted(again, key=lambda item: item.id)
    raise BrokerUnavailable(
        f"job {items[0].id} changed again and again while it was settled: try again"
    )


async def _apply(
    connection: Connection, texts: Texts, items: list[_Item], ended: Ended
) -> list[int]:
    """Apply what can be; the places (from 1) of the items that were."""
    plain = all(_is_plain(item.settlement) for item in items)
    values = _keys(items) if plain else [*_keys(items), *_outcomes(items)]
    (row,) = await fetch_recording(
        connection,
        texts,
        _COMPLETE if plain else _SETTLE,
        *values,
        ids=[item.id for item in items],
    )
    if not plain:
        ended.work.extend(row[1])
    places: list[int] = row[0]
    return places


def _is_plain(item: Settlement) -> bool:
    return item.kind == "completed" and item.result is None and item.note is None


def _keys(items: Sequence[_Item]) -> list[list[Any]]:
    return [
        [item.id for item in items],
        [item.delivery for item in items],
        [item.owner for item in items],
        [item.enqueued_ms for item in items],
    ]


def _outcomes(items: Sequence[_Item]) -> list[list[Any]]:
    outcomes = [item.settlement for item in items]
    return [
        [_KINDS[outcome.kind] for outcome in outcomes],
        [outcome.delay_ms for outcome in outcomes],
        [outcome.result for outcome in outcomes],
        [outcome.content_type for outcome in outcomes],
        [outcome.note for outcome in outcomes],
    ]
