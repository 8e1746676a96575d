"""Storing new jobs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from aioq.errors import BatchRejected
from aioq.plugins import PRIORITY_HEAD_START_MS, Added, NewJob
from aioq_postgres._connect import Connection
from aioq_postgres._rows import need_id
from aioq_postgres._sql import SOON_MS, Texts

__all__ = ["COLUMNS", "REFUSE", "VALUES", "Enqueued", "enqueue", "refuse_recorded"]

COLUMNS: Final = "id, queue, task, state, sort_key, run_at, priority, created_at, policy, body"
VALUES: Final = f"""
    i.id, i.queue, i.task, case when due > now then 1 else 0 end,
    due - i.priority::bigint * {PRIORITY_HEAD_START_MS}, due, i.priority, now, i.policy, i.body
"""
"""A row of ``i`` as a job; ``due`` and ``now`` stand in scope."""

# The row of the producer is locked first: a second copy of a batch waits there for the first, and
# then finds its number taken. The sort keeps batches with several queues from waiting in a circle.
_ENQUEUE: Final = f"""
with c as materialized (
    select now_ms() as now
), numbered as (
    insert into aioq.producer (nonce, queue, last, used_at)
    select $1, b.queue, b.number, c.now
    from c, (select * from unnest($2::text[], $3::bigint[]) as b (queue, number) order by 1) b
    on conflict (nonce, queue) do update set last = excluded.last, used_at = excluded.used_at
    where producer.last < excluded.last
    returning queue
), fresh as materialized (
    select queue from numbered
), known as (
    insert into aioq.queue (name)
    select queue from fresh where not exists (
        select from aioq.queue where queue.name = fresh.queue
    ) order by 1 on conflict do nothing
), stored as (
    insert into aioq.job ({COLUMNS})
    select {VALUES}
    from c, unnest(
        $4::uuid[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::integer[],
        $10::bigint[], $11::bigint[]
    ) as i (id, queue, task, policy, body, priority, delay, at),
    lateral (select greatest(c.now, coalesce(i.at, c.now + i.delay)) as due) d
    where i.queue in (select queue from fresh)
    on conflict do nothing
    returning id, queue, run_at
)
select now, array(select queue from fresh),
    (select count(*) from stored),
    array(select distinct queue from stored where run_at <= now + {SOON_MS}),
    case when $12 or (select count(*) from stored) < cardinality($4) then
        array(select id from stored)
    end
from c
"""

REFUSE: Final = """
delete from aioq.job
where id = any({ids}) and state in (0, 1) and delivery = 0
    and exists (select from aioq.job_done where job_done.id = job.id)
returning cast(id as text)
"""
"""Takes jobs back whose record is kept; ``{ids}`` is an array.

A statement of its own, after the one that stored them: the snapshot of that is older than a settle
that it may have waited for.
"""
_REFUSE: Final = REFUSE.format(ids="$1::uuid[]")

# In a transaction of several statements: one that is left open (a client that was cut off) must not
# keep others waiting.
_BRIEF: Final = "select set_config('idle_in_transaction_session_timeout', '10s', true)"

Arrays: TypeAlias = list[list[Any]]

LAST_INSTANT_MS: Final = 2**60
MOST_BYTES: Final = 2**28
"""Of all bodies in one statement; PostgreSQL takes a message of 1 GiB at most."""


class Enqueued(NamedTuple):
    """The answers, and which queues got work that is due now or soon."""

    added: list[Added]
    work: list[str]


async def enqueue(
    connection: Connection,
    texts: Texts,
    jobs: Sequence[NewJob],
    producer: bytes,
    numbers: Mapping[str, int],
) -> Enqueued:
    """As ``BaseBroker.enqueue``."""
    head = (producer, list(numbers), list(numbers.values()))
    given = [need_id(job.id) for job in jobs if job.check_exists]
    values = (*head, *_arrays(jobs), bool(given))
    if not given:
        (row,) = await connection.fetch(texts(_ENQUEUE), *values)
        if row[4] is None:
            return Enqueued([Added("new", row[0])] * len(jobs), row[3])
        stored = set(row[4])
    else:
        # the second statement has to see more than the first, whatever the database's default is
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(_BRIEF)
            (row,) = await connection.fetch(texts(_ENQUEUE), *values)
            stored = set(row[4])
            stored -= await refuse_recorded(
                connection, texts, [raw for raw in given if raw in stored]
            )
    return Enqueued(_answers(jobs, row[0], set(row[1]), stored), row[3])


async def refuse_recorded(connection: Connection, texts: Texts, ids: Sequence[UUID]) -> set[UUID]:
    """Take back those of the jobs just stored whose record is kept; which they were.

    In the transaction that stored them.
    """
    if not ids:
        return set()
    return {UUID(row[0]) for row in await connection.fetch(texts(_REFUSE), ids)}


def _answers(jobs: Sequence[NewJob], now: int, fresh: set[str], stored: set[UUID]) -> list[Added]:
    new, already, exists = Added("new", now), Added("already", now), Added("exists", now)
    answers: list[Added] = []
    for job in jobs:
        if job.queue not in fresh:
            answers.append(already)
        elif (job_id := need_id(job.id)) in stored:
            # An id that stands twice in the batch is stored once.
            stored.discard(job_id)
            answers.append(new)
        else:
            answers.append(exists)
    return answers


def _arrays(jobs: Sequence[NewJob]) -> Arrays:
    if sum(len(job.body) + len(job.policy) for job in jobs) > MOST_BYTES:
        raise BatchRejected(
            f"the jobs of one call take more than {MOST_BYTES:,} bytes: send them in several calls"
        )
    for job in jobs:
        if job.at_ms is not None and abs(job.at_ms) >= LAST_INSTANT_MS:
            raise BatchRejected(f"job {job.id} has a date that cannot be stored: {job.at_ms} ms")
    return [
        [need_id(job.id) for job in jobs],
        [job.queue for job in jobs],
        [job.task for job in jobs],
        [job.policy for job in jobs],
        [job.body for job in jobs],
        [job.priority for job in jobs],
        [max(job.delay_ms, 0) for job in jobs],
        [job.at_ms for job in jobs],
    ]
