"""The floor for the PostgreSQL broker: claim and acknowledge, and nothing else.

Two statements on one connection, batches of 100, on the broker's own schema: each job gets a lease
and a token, and leaves the same record. The planner is guarded by settings of the session. As with
aioq's ``fast_claims``, a claim does not wait for the disk, and an acknowledgement does. No retries,
results, fencing, tally, or other workers.
"""

import time
from uuid import UUID, uuid4

import asyncpg

CLAIM = """
with picked as materialized (
    select id from aioq.job where state = 0 and queue = $1
    order by sort_key, id limit $2 for update skip locked
)
update aioq.job set state = 4, delivery = delivery + 1, owner = $3, ended = 0,
    lease_until = $4, started_at = $5
from picked, (select set_config('synchronous_commit', 'off', true)) fast
where job.id = picked.id
returning job.id, task, policy, body, note, delivery, retries, crashes
"""
SETTLE = """
with gone as (
    delete from aioq.job where id = any($1::uuid[]) and owner = $2
    returning id, queue, task, run_at, priority, delivery, retries, crashes, owner, created_at,
        started_at, policy, note
)
insert into aioq.job_done (id, queue, task, status, run_at, priority, delivery, retries, crashes,
    owner, ended, created_at, started_at, finished_at, policy, note)
select id, queue, task, 10, run_at, priority, delivery, retries, crashes, owner, 1, created_at,
    started_at, $3, policy, note from gone
"""
BATCH = 100


async def drain(dsn: str, queue: str) -> tuple[int, float]:
    """Claim and acknowledge every ready job; how many, and the seconds it took."""
    connection = await asyncpg.connect(dsn)
    for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"):
        await connection.execute(f"set {setting} = off")
    await connection.execute("set plan_cache_mode = force_generic_plan")
    claim = await connection.prepare(CLAIM)
    settle = await connection.prepare(SETTLE)
    owner: UUID = uuid4()
    done = 0
    started = time.perf_counter()
    while True:
        now = time.time_ns() // 1_000_000
        rows = await claim.fetch(queue, BATCH, owner, now + 30_000, now)
        if not rows:
            break
        await settle.fetch([row[0] for row in rows], owner, now)
        done += len(rows)
    seconds = time.perf_counter() - started
    await connection.close()
    return done, seconds
