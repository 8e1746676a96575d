"""Reading: jobs by id and by filter, and counts."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from aioq.errors import InvalidOption
from aioq.plugins import FINISHED, Filter, JobInfo, Page, QueueStats, Status
from aioq_postgres._connect import Connection
from aioq_postgres._rows import COMPLETED, DONE, JOB, STATUS, find_id, info
from aioq_postgres._sql import Texts

__all__ = ["counts", "delete_where", "ended", "find", "get"]

_GET: Final = f"""
select {JOB} from aioq.job where id = any($1::uuid[])
union all
select {DONE} from aioq.job_done where id = any($1)
    and not exists (select from aioq.job where job.id = job_done.id)
"""
_ENDED: Final = """
select id from unnest($1::uuid[]) as w (id)
where not exists (select from aioq.job where job.id = w.id)
"""
_LIVE_STATUS: Final[dict[Status, str]] = {
    "pending": "state in (0, 5)",
    "scheduled": "(state = 1 and retries = 0)",
    "retrying": "(state = 1 and retries > 0)",
    "running": "state = 4",
}
_COUNTS: Final = """
with c as materialized (select now_ms() as now)
select queue, case
        when state = 0 then 'pending'
        when state = 4 then 'running'
        when state = 5 then 'quarantined'
        when retries > 0 then 'retrying'
        else 'scheduled'
    end as status,
    count(*), max(c.now - run_at) filter (where state <> 4)
from aioq.job, c where $1::text[] is null or queue = any($1) group by 1, 2
union all
select queue, status::text, sum(number)::bigint, null
from aioq.tally where $1 is null or queue = any($1) group by queue, status
union all
select name, case when paused then 'paused' else 'known' end, 0, null
from aioq.queue where $1 is null or name = any($1)
"""
_STATUS_OF: Final[dict[str, str]] = {str(number): str(status) for status, number in STATUS.items()}


async def get(connection: Connection, texts: Texts, job_ids: Sequence[str]) -> list[JobInfo | None]:
    """As ``BaseBroker.get``."""
    wanted = [find_id(job_id) for job_id in job_ids]
    ids = list({raw for raw in wanted if raw is not None})
    rows = await connection.fetch(texts(_GET), ids)
    found: dict[UUID, JobInfo] = {row[0]: info(row) for row in rows}
    return [None if raw is None else found.get(raw) for raw in wanted]


async def ended(connection: Connection, texts: Texts, ids: Iterable[UUID]) -> list[UUID]:
    """Those of the ids that are not live."""
    return [row[0] for row in await connection.fetch(texts(_ENDED), list(ids))]


class _Arm(NamedTuple):
    """One of the two tables in a query by filter."""

    columns: str
    table: str
    tests: list[str]

    @property
    def where(self) -> str:
        return " and ".join(self.tests) or "true"


def _arms(where: Filter, values: list[Any]) -> list[_Arm]:
    """The tables to look in; ``values`` gets what the tests refer to."""

    def value(item: object) -> str:
        values.append(item)
        return f"${len(values)}"

    tests: list[str] = []
    if where.queue is not None:
        tests.append(f"queue = {value(where.queue)}::text")
    if where.task is not None:
        tests.append(f"task = {value(where.task)}::text")
    arms: list[_Arm] = []
    live = set(_LIVE_STATUS) if where.status is None else where.status - FINISHED
    if live and where.finished_for_ms is None:
        states = " or ".join(_LIVE_STATUS[status] for status in sorted(live))
        arms.append(_Arm(JOB, "aioq.job", [*tests, f"({states})"]))
    done = FINISHED if where.status is None else where.status & FINISHED
    if done:
        # A job that lives again under the same id is listed once.
        tests = [*tests, "not exists (select from aioq.job where job.id = job_done.id)"]
        if "completed" not in done:
            tests.append(f"status > {COMPLETED}")
        if len(done) < len(FINISHED):
            numbers = [str(number) for name, number in STATUS.items() if name in done]
            tests.append(f"status in ({', '.join(numbers)})")
        if where.finished_for_ms is not None:
            tests.append(f"finished_at <= now_ms() - {value(where.finished_for_ms)}::bigint")
        arms.append(_Arm(DONE, "aioq.job_done", tests))
    return arms


async def find(
    connection: Connection, texts: Texts, where: Filter, limit: int, cursor: str | None
) -> Page:
    """As ``BaseBroker.find``."""
    before = None if cursor is None else _place_of(cursor)
    values: list[Any] = []
    arms = _arms(where, values)
    if not arms:
        return Page([], None)
    values.append(limit + 1)
    most = f"${len(values)}::bigint"
    if before is not None:
        values.append(before)
        for arm in arms:
            arm.tests.append(f"id < ${len(values)}::uuid")
    selects = [
        f"select * from (select {arm.columns} from {arm.table} where {arm.where} "
        f"order by id desc limit {most}) a{number}"
        for number, arm in enumerate(arms)
    ]
    text = f"{' union all '.join(selects)} order by 1 desc limit {most}"
    rows = await connection.fetch(texts(text), *values)
    page = rows[:limit]
    return Page(
        [info(row) for row in page],
        str(page[-1][0]) if page and len(rows) > limit else None,
    )


def _place_of(cursor: str) -> UUID:
    place = find_id(cursor)
    if place is None:
        raise InvalidOption(
            f"{cursor!r} is no cursor that a listing gave: pass that of the page before, or none"
        )
    return place


async def delete_where(connection: Connection, texts: Texts, where: Filter, limit: int) -> int:
    """As ``BaseBroker.delete_where``."""
    done = 0
    for arm in _arms(where, []):
        values: list[Any] = []
        # The same tests again, numbered for this arm alone.
        (alone,) = (same for same in _arms(where, values) if same.table == arm.table)
        values.append(limit - done)
        chosen = f"select id from {alone.table} where {alone.where}"
        tally = ""
        if alone.table == "aioq.job":
            chosen += " and state <> 4"
        else:
            tally = (
                ", t as (insert into aioq.tally (queue, status, number) "
                "select queue, status, -count(*) from gone group by queue, status)"
            )
        text = (
            f"with gone as (delete from {alone.table} where id = any(array({chosen} "
            f"limit ${len(values)}::bigint for update skip locked)) returning *){tally} "
            f"select count(*) from gone"
        )
        if done < limit:
            done += await connection.fetchval(texts(text), *values)
    return done


async def count(connection: Connection, texts: Texts, where: Filter) -> int:
    """As ``BaseBroker.count_where``."""
    values: list[Any] = []
    counts = [
        f"(select count(*) from {arm.table} where {arm.where}"
        f"{' and state <> 4' if arm.table == 'aioq.job' else ''})"
        for arm in _arms(where, values)
    ]
    if not counts:
        return 0
    return int(await connection.fetchval(texts(f"select {' + '.join(counts)}"), *values))


async def counts(
    connection: Connection, texts: Texts, queues: Sequence[str] | None
) -> list[QueueStats]:
    """As ``BaseBroker.counts``."""
    tallies: dict[str, dict[str, int]] = {}
    oldest: dict[str, int] = {}
    paused: set[str] = set()
    wanted = None if queues is None else list(queues)
    rows: Sequence[Sequence[Any]] = await connection.fetch(texts(_COUNTS), wanted)
    for queue, status, number, age in rows:
        tally = tallies.setdefault(queue, {})
        if status == "paused":
            paused.add(queue)
        elif status != "known":
            tally[_STATUS_OF.get(str(status), str(status))] = number
        if age is not None and age >= 0:
            oldest[queue] = max(age, oldest.get(queue, 0))
    for tally in tallies.values():
        tally["pending"] = tally.get("pending", 0) + tally.get("quarantined", 0)
    return [
        QueueStats(
            queue,
            **tallies.get(queue, {}),
            oldest_due=oldest[queue] / 1000 if queue in oldest else None,
            paused=queue in paused,
        )
        for queue in sorted(tallies if queues is None else set(queues))
    ]
