"""Enqueueing inside the caller's own transaction, on the connection the caller has.

One text parameter carries all jobs as JSON, so that one statement suits every driver, whatever
codecs the caller has set. Nothing is opened, committed or rolled back here; errors of the driver go
to the caller as they are, since it is the caller's transaction that they end.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from aioq.errors import ConfigurationError
from aioq.plugins import Added, NewJob
from aioq_postgres._enqueue import COLUMNS, REFUSE, VALUES
from aioq_postgres._notify import channel_of, payload_of_work
from aioq_postgres._rows import need_id
from aioq_postgres._sql import SOON_MS, Texts

__all__ = ["enqueue_inside", "enqueue_inside_sync"]

Values = Mapping[str, str]

# `<jobs>` is a value, written as each driver wants it by `_fill`.
_STORE: Final = f"""
with c as materialized (
    select now_ms() as now
), i as materialized (
    select id, queue, task, decode(policy, 'base64') as policy, decode(body, 'base64') as body,
        priority, delay, at
    from jsonb_to_recordset(cast(cast(<jobs> as text) as jsonb)) as j (
        id uuid, queue text, task text, policy text, body text, priority integer, delay bigint,
        at bigint
    )
), stored as (
    insert into aioq.job ({COLUMNS})
    select {VALUES}
    from c, i, lateral (select greatest(c.now, coalesce(i.at, c.now + i.delay)) as due) d
    on conflict do nothing
    returning id, queue, run_at
)
select cast(stored.id as text), c.now, stored.queue, stored.run_at <= c.now + {SOON_MS}
from c left join stored on true
"""
_REFUSE: Final = REFUSE.format(
    ids="array(select cast(value as uuid) from "
    "jsonb_array_elements_text(cast(cast(<ids> as text) as jsonb)))"
)
_NOTIFY: Final = "select pg_notify(cast(<channel> as text), cast(<payload> as text))"


class _Plan:
    """The statements to run, one after the other, and what their rows mean."""

    def __init__(self, texts: Texts, jobs: Sequence[NewJob], wake: bool) -> None:
        self._texts = texts
        self._jobs = jobs
        self._wake = wake
        self._stored: set[str] = set()
        self._now = 0
        self._work: set[str] = set()

    def store(self) -> tuple[str, Values]:
        jobs = [
            {
                "id": str(need_id(job.id)),
                "queue": job.queue,
                "task": job.task,
                "policy": base64.b64encode(job.policy).decode(),
                "body": base64.b64encode(job.body).decode(),
                "priority": job.priority,
                "delay": max(job.delay_ms, 0),
                "at": job.at_ms,
            }
            for job in self._jobs
        ]
        return self._texts(_STORE), {"jobs": json.dumps(jobs)}

    def stored(self, rows: Sequence[Sequence[Any]]) -> None:
        self._now = rows[0][1]
        self._stored = {row[0] for row in rows if row[0] is not None}
        self._work = {row[2] for row in rows if row[3]}

    def refuse(self) -> tuple[str, Values] | None:
        given = [job.id for job in self._jobs if job.check_exists and job.id in self._stored]
        return (self._texts(_REFUSE), {"ids": json.dumps(given)}) if given else None

    def refused(self, rows: Sequence[Sequence[Any]]) -> None:
        self._stored.difference_update(row[0] for row in rows)

    def notify(self) -> tuple[str, Values] | None:
        if not (self._wake and self._work):
            return None
        news = {"channel": channel_of(self._texts.schema), "payload": payload_of_work(self._work)}
        return _NOTIFY, news

    def answers(self) -> list[Added]:
        new, exists = Added("new", self._now), Added("exists", self._now)
        left = set(self._stored)
        found: list[Added] = []
        for job in self._jobs:
            found.append(new if job.id in left else exists)
            # An id that stands twice in the call is stored once.
            left.discard(job.id)
        return found


async def enqueue_inside(
    texts: Texts, connection: object, jobs: Sequence[NewJob], *, wake: bool
) -> list[Added]:
    """As ``BaseBroker.enqueue_inside``; with ``wake`` the commit wakes workers."""
    plan = _Plan(texts, jobs, wake)
    fetch = _async_way(connection)
    plan.stored(await fetch(*plan.store()))
    if refuse := plan.refuse():
        plan.refused(await fetch(*refuse))
    if bell := plan.notify():
        await fetch(*bell)
    return plan.answers()


def enqueue_inside_sync(
    texts: Texts, connection: object, jobs: Sequence[NewJob], *, wake: bool
) -> list[Added]:
    """As ``BaseBroker.enqueue_inside_sync``; with ``wake`` the commit wakes workers."""
    plan = _Plan(texts, jobs, wake)
    fetch = _sync_way(connection)
    plan.stored(fetch(*plan.store()))
    if refuse := plan.refuse():
        plan.refused(fetch(*refuse))
    if bell := plan.notify():
        fetch(*bell)
    return plan.answers()


# -- the drivers, none of which is imported -------------------------------------------------------


def _async_way(connection: Any) -> Callable[[str, Values], Awaitable[Sequence[Any]]]:
    kind = _kind(connection)
    if kind == "asyncpg":
        return lambda text, values: connection.fetch(_numbered(text, values), *values.values())
    if kind == "async psycopg":

        async def on_psycopg(text: str, values: Values) -> Sequence[Any]:
            async with connection.cursor(row_factory=_plain_rows()) as cursor:
                await cursor.execute(_named(text, values), values)
                rows: Sequence[Any] = await cursor.fetchall()
                return rows

        return on_psycopg
    if kind == "async SQLAlchemy":

        async def on_sqlalchemy(text: str, values: Values) -> Sequence[Any]:
            rows: Sequence[Any] = (await connection.execute(_clause(text, values), values)).all()
            return rows

        return on_sqlalchemy
    raise _unfit(connection, kind, "without an event loop: use task.options(...).enqueue_sync(...)")


def _sync_way(connection: Any) -> Callable[[str, Values], Sequence[Any]]:
    kind = _kind(connection)
    if kind == "psycopg":

        def on_psycopg(text: str, values: Values) -> Sequence[Any]:
            with connection.cursor(row_factory=_plain_rows()) as cursor:
                rows: Sequence[Any] = cursor.execute(_named(text, values), values).fetchall()
                return rows

        return on_psycopg
    if kind == "SQLAlchemy":

        def on_sqlalchemy(text: str, values: Values) -> Sequence[Any]:
            rows: Sequence[Any] = connection.execute(_clause(text, values), values).all()
            return rows

        return on_sqlalchemy
    raise _unfit(connection, kind, "asynchronous: use 'await task.options(...).enqueue(...)'")


def _kind(connection: object) -> str:
    classes: list[type[Any]] = type(connection).mro()
    names = {cls.__name__ for cls in classes}
    packages = {cls.__module__.partition(".")[0] for cls in classes}
    if "asyncpg" in packages:
        return "asyncpg"
    if "psycopg" in packages:
        return "async psycopg" if "AsyncConnection" in names else "psycopg"
    if "sqlalchemy" in packages:
        is_async = any("async" in name.lower() for name in names)
        return "async SQLAlchemy" if is_async else "SQLAlchemy"
    return "unknown"


def _unfit(connection: object, kind: str, how: str) -> ConfigurationError:
    cls = type(connection)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if kind != "unknown":
        return ConfigurationError(f"the connection ({name}) is {how}")
    return ConfigurationError(
        f"jobs cannot be enqueued on a {name}: give a connection of asyncpg or psycopg, or a "
        f"connection or session of SQLAlchemy"
    )


def _plain_rows() -> Any:
    """The factory of plain rows of psycopg, whatever the connection makes by default."""
    return import_module("psycopg.rows").tuple_row


def _numbered(text: str, values: Values) -> str:
    return _fill(text, {name: f"${number}" for number, name in enumerate(values, 1)})


def _named(text: str, values: Values) -> str:
    return _fill(text.replace("%", "%%"), {name: f"%({name})s" for name in values})


def _clause(text: str, values: Values) -> Any:
    marks = {name: f":{name}" for name in values}
    return import_module("sqlalchemy").text(_fill(text.replace(":", "\\:"), marks))


def _fill(text: str, marks: Mapping[str, str]) -> str:
    for name, mark in marks.items():
        text = text.replace(f"<{name}>", mark)
    return text
