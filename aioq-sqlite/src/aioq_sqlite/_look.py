"""Reading: jobs by id and by filter, and counts."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aioq.errors import InvalidOption
from aioq.plugins import FINISHED, Filter, JobInfo, Page, QueueStats, Status
from aioq_sqlite._rows import (
    DONE,
    JOB,
    QUARANTINED,
    READY,
    RUNNING,
    SCHEDULED,
    STATUS,
    find_id,
    info,
    to_text,
)
from aioq_sqlite._tx import Tx, marks, portions

__all__ = ["count", "counts", "find", "get", "get_ended", "matching", "still_matching"]

_LIVE_STATUS: dict[Status, tuple[str, ...]] = {
    "pending": (f"state = {READY}", f"state = {QUARANTINED}"),
    "scheduled": (f"state = {SCHEDULED} and retries = 0",),
    "retrying": (f"state = {SCHEDULED} and retries > 0",),
    "running": (f"state = {RUNNING}",),
}
_COUNT_LIVE = f"""
    select queue, 'pending', count(*), min(run_at) from job where state = {READY} group by queue
    union all
    select queue, 'quarantined', count(*), min(run_at) from job
    where state = {QUARANTINED} group by queue
    union all
    select queue, iif(retries > 0, 'retrying', 'scheduled'), count(*), min(run_at) from job
    where state = {SCHEDULED} group by queue, retries > 0
    union all
    select queue, 'running', count(*), null from job where state = {RUNNING} group by queue
"""
_STATUS_OF = {number: status for status, number in STATUS.items()}


def get(tx: Tx, job_ids: Sequence[str]) -> list[JobInfo | None]:
    """As ``BaseBroker.get``."""
    wanted = [find_id(job_id) for job_id in job_ids]
    found = _by_id(tx, {raw for raw in wanted if raw is not None})
    return [None if raw is None else found.get(raw) for raw in wanted]


def get_ended(tx: Tx, ids: Iterable[bytes]) -> dict[bytes, JobInfo | None]:
    """Those of the ids that are not live: their records, or None for what is unknown."""
    ids = set(ids)
    live: set[bytes] = set()
    for portion in portions(list(ids)):
        where = f"where id in {marks(1, len(portion))}"
        live.update(row[0] for row in tx.con.execute(f"select id from job {where}", portion))
    records = _select(tx, DONE, "job_done", ids - live)
    return {raw: records.get(raw) for raw in ids - live}


def _by_id(tx: Tx, ids: set[bytes]) -> dict[bytes, JobInfo]:
    live = _select(tx, JOB, "job", ids)
    return {**_select(tx, DONE, "job_done", ids - live.keys()), **live}


def _select(tx: Tx, columns: str, table: str, ids: Iterable[bytes]) -> dict[bytes, JobInfo]:
    found: dict[bytes, JobInfo] = {}
    for portion in portions(list(ids)):
        sql = f"select {columns} from {table} where id in {marks(1, len(portion))}"
        found.update((row[0], info(row)) for row in tx.con.execute(sql, portion))
    return found


class _Arm(NamedTuple):
    """One of the two tables in a query by filter."""

    columns: str
    table: str
    tests: list[str]
    values: list[Any]

    def select(self, columns: str | None = None) -> str:
        where = " and ".join(self.tests) or "true"
        return f"select {columns or self.columns} from {self.table} where {where}"


def _arms(tx: Tx, where: Filter, *, running: bool) -> list[_Arm]:
    """The parts of a listing in the order of ids, or (not ``running``) of a deletion."""
    tests: list[str] = []
    values: list[Any] = []
    for column, value in (("queue", where.queue), ("task", where.task)):
        if value is not None:
            tests.append(f"{column} = ?")
            values.append(value)
    arms: list[_Arm] = []
    live = set(_LIVE_STATUS) if where.status is None else where.status - FINISHED
    if not running:
        live = live - {"running"}
    if live and where.finished_for_ms is None:
        states = [state for status in sorted(live) for state in _LIVE_STATUS[status]]
        # In the order of ids one arm is best; without order, one for each of the partial indexes.
        ways = [" or ".join(states)] if running else states
        arms += [_Arm(JOB, "job", [*tests, f"({way})"], values) for way in ways]
    done = FINISHED if where.status is None else where.status & FINISHED
    if done:
        # A job that lives again under the same id is listed once.
        tests = [*tests, "not exists (select 1 from job where job.id = job_done.id)"]
        if "completed" not in done:
            tests.append("status > 10")
        if len(done) < len(FINISHED):
            numbers = ", ".join(str(STATUS[name]) for name in sorted(done))
            tests.append(f"status in ({numbers})")
        if where.finished_for_ms is None:
            arms.append(_Arm(DONE, "job_done", tests, values))
        else:
            # One arm for each of the two indexes by age.
            values = [*values, tx.now - where.finished_for_ms]
            arms += [
                _Arm(DONE, "job_done", [*tests, "finished_at <= ?", saved], values)
                for saved in ("result is null", "result is not null")
            ]
    return arms


def find(tx: Tx, where: Filter, limit: int, cursor: str | None) -> Page:
    """As ``BaseBroker.find``."""
    before = None if cursor is None else _place(cursor)
    rows: list[tuple[Any, ...]] = []
    for arm in _arms(tx, where, running=True):
        values = list(arm.values)
        if before is not None:
            arm.tests.append("id < ?")
            values.append(before)
        sql = f"{arm.select()} order by id desc limit ?"
        rows += tx.con.execute(sql, [*values, limit + 1])
    rows.sort(reverse=True, key=lambda row: row[0])
    page = rows[:limit]
    return Page(
        [info(row) for row in page],
        to_text(page[-1][0]) if page and len(rows) > limit else None,
    )


def _place(cursor: str) -> bytes:
    """Where a page begins: below this id."""
    place = find_id(cursor)
    if place is None:
        raise InvalidOption(
            f"{cursor!r} is no cursor that a listing gave: pass that of the page before, or none"
        )
    return place


def matching(tx: Tx, where: Filter, limit: int) -> list[bytes]:
    """Ids of up to ``limit`` jobs and records of the filter that do not run."""
    found: list[bytes] = []
    for arm in _arms(tx, where, running=False):
        if len(found) < limit:
            values = [*arm.values, limit - len(found)]
            found += [row[0] for row in tx.con.execute(f"{arm.select('id')} limit ?", values)]
    return found


def count(tx: Tx, where: Filter) -> int:
    """As ``BaseBroker.count_where``."""
    return sum(
        tx.con.execute(arm.select("count(*)"), arm.values).fetchone()[0]
        for arm in _arms(tx, where, running=False)
    )


def still_matching(tx: Tx, where: Filter, ids: Sequence[bytes]) -> list[bytes]:
    """Those of the ids that ``matching`` would find now."""
    found: list[bytes] = []
    for arm in _arms(tx, where, running=False):
        for portion in portions(ids):
            sql = f"{arm.select('id')} and id in {marks(1, len(portion))}"
            found += [row[0] for row in tx.con.execute(sql, [*arm.values, *portion])]
    return found


def counts(tx: Tx, queues: Sequence[str] | None) -> list[QueueStats]:
    """As ``BaseBroker.counts``."""
    known = dict(tx.con.execute("select name, paused from queue").fetchall())
    tallies: dict[str, dict[str, int]] = {}
    oldest: dict[str, int] = {}
    for queue, status, number, due in tx.con.execute(_COUNT_LIVE):
        tally = tallies.setdefault(queue, {})
        tally[status] = number
        if due is not None and due <= tx.now:
            oldest[queue] = min(due, oldest.get(queue, due))
    for queue, status, number in tx.con.execute("select * from tally"):
        tallies.setdefault(queue, {})[_STATUS_OF[status]] = number
    for tally in tallies.values():
        tally["pending"] = tally.get("pending", 0) + tally.get("quarantined", 0)
    wanted = sorted({*known, *tallies} if queues is None else set(queues))
    return [
        QueueStats(
            queue,
            **tallies.get(queue, {}),
            oldest_due=(tx.now - oldest[queue]) / 1000 if queue in oldest else None,
            paused=bool(known.get(queue, 0)),
        )
        for queue in wanted
    ]
