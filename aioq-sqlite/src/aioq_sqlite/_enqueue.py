"""Storing new jobs."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from aioq.plugins import PRIORITY_HEAD_START_MS, Added, NewJob
from aioq_sqlite._due import next_due
from aioq_sqlite._rows import READY, SCHEDULED, need_id
from aioq_sqlite._tx import Tx, marks, portions

__all__ = ["enqueue"]

_NUMBER = """
    insert into producer (nonce, queue, last, used_at) values (?, ?, ?, ?)
    on conflict (nonce, queue) do update set last = excluded.last, used_at = excluded.used_at
    where producer.last < excluded.last
"""
_INSERT = """
    insert into job
        (id, queue, task, state, sort_key, run_at, priority, created_at, policy, body)
    values {} on conflict do nothing
"""
_WIDTH = 10


Row: TypeAlias = tuple[bytes, str, str, int, int, int, int, int, bytes, bytes]


def enqueue(
    tx: Tx, jobs: Sequence[NewJob], producer: bytes, numbers: Mapping[str, int]
) -> list[Added]:
    """As ``BaseBroker.enqueue``."""
    now = tx.now
    seen = {queue for queue, number in numbers.items() if not _count(tx, producer, queue, number)}
    for queue in {job.queue for job in jobs} - seen:
        tx.con.execute("insert or ignore into queue (name) values (?)", (queue,))
    rows = [_row(job, now) for job in jobs if not seen or job.queue not in seen]
    taken = _recorded(tx, [need_id(job.id) for job in jobs if job.check_exists])
    if taken:
        rows = [row for row in rows if row[0] not in taken]
    _wake(tx, rows)
    new, already, exists = Added("new", now), Added("already", now), Added("exists", now)
    stored = _insert(tx, rows)
    if stored is None and len(rows) == len(jobs):
        return [new] * len(jobs)
    left = {row[0] for row in rows} if stored is None else stored
    answers: list[Added] = []
    for job in jobs:
        if job.queue in seen:
            answers.append(already)
        elif (job_id := need_id(job.id)) in left:
            # An id that stands twice in the batch is stored once.
            left.discard(job_id)
            answers.append(new)
        else:
            answers.append(exists)
    return answers


def _count(tx: Tx, producer: bytes, queue: str, number: int) -> bool:
    """Store the number of a batch; False when it, or a later one, has been stored before."""
    return tx.con.execute(_NUMBER, (producer, queue, number, tx.now)).rowcount == 1


def _row(job: NewJob, now: int) -> Row:
    due = now + max(job.delay_ms, 0) if job.at_ms is None else max(job.at_ms, now)
    return (
        need_id(job.id),
        job.queue,
        job.task,
        SCHEDULED if due > now else READY,
        due - job.priority * PRIORITY_HEAD_START_MS,
        due,
        job.priority,
        now,
        job.policy,
        job.body,
    )


def _recorded(tx: Tx, ids: Sequence[bytes]) -> set[bytes]:
    """Those of the ids whose record is kept."""
    found: set[bytes] = set()
    for portion in portions(ids):
        found.update(
            row[0]
            for row in tx.con.execute(
                f"select id from job_done where id in {marks(1, len(portion))}", portion
            )
        )
    return found


def _wake(tx: Tx, rows: Sequence[Row]) -> None:
    """Note the queues that get due work, or an earlier due time than they had."""
    earliest: dict[str, int] = {}
    for _, queue, _, state, _, due, *_ in rows:
        if state == READY:
            tx.work.add(queue)
        elif due < earliest.get(queue, due + 1):
            earliest[queue] = due
    for queue, due in earliest.items():
        if queue not in tx.work:
            head = next_due(tx, queue)
            if head is None or due < head:
                tx.work.add(queue)


def _insert(tx: Tx, rows: Sequence[Row]) -> set[bytes] | None:
    """Store rows; None when all were new, else the ids of those that were."""
    (last,) = tx.con.execute("select max(seq) from job").fetchone()
    count = 0
    for portion in portions(rows):
        sql = _INSERT.format(marks(len(portion), _WIDTH))
        count += tx.con.execute(sql, list(chain.from_iterable(portion))).rowcount
    if count == len(rows):
        return None
    return {row[0] for row in tx.con.execute("select id from job where seq > ?", (last or 0,))}
