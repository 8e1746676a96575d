"""The floor for the SQLite broker: claim and acknowledge, and nothing else.

One thread, one connection, batches of 100, on the broker's own schema and settings: each job gets a
lease and a token, and leaves the same record; jobs are acknowledged one by one, because they do not
end in the order they were claimed in. No retries, results, fencing, other processes.
"""

import sqlite3
import time
import uuid
from pathlib import Path

CLAIM = """
update job set state = 4, delivery = delivery + 1, owner = :owner, ended = 0,
    lease_until = :lease, started_at = :now
where seq in (
    select seq from job where state = 0 and queue = :queue order by sort_key, id limit :n
)
returning seq, id, task, policy, body, note, delivery, retries, crashes
"""
RECORD = """
insert into job_done (id, queue, task, status, run_at, priority, delivery, retries, crashes, owner,
    ended, created_at, started_at, finished_at, policy, note)
select id, queue, task, 10, run_at, priority, delivery, retries, crashes, owner,
    1, created_at, started_at, ?, policy, note from job where seq = ?
"""
DELETE = "delete from job where seq = ?"
BATCH = 100


def drain(path: Path, queue: str, synchronous: str) -> tuple[int, float]:
    """Claim and acknowledge every ready job; how many, and the seconds it took."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute(f"pragma synchronous = {synchronous}")
    db.execute("pragma wal_autocheckpoint = 0")
    owner = uuid.uuid4().bytes
    done = 0
    started = time.perf_counter()
    while True:
        now = time.time_ns() // 1_000_000
        db.execute("begin immediate")
        rows = db.execute(
            CLAIM,
            {"owner": owner, "lease": now + 30_000, "now": now, "queue": queue, "n": BATCH},
        ).fetchall()
        db.execute("commit")
        if not rows:
            break
        db.execute("begin immediate")
        db.executemany(RECORD, [(now, row[0]) for row in rows])
        db.executemany(DELETE, [(row[0],) for row in rows])
        db.execute("commit")
        done += len(rows)
    seconds = time.perf_counter() - started
    db.close()
    return done, seconds
