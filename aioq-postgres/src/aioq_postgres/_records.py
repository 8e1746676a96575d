"""What a finished job leaves, where its id was used before."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from aioq_postgres._connect import Connection
from aioq_postgres._sql import Texts

__all__ = ["RECORD", "fetch_recording"]

RECORD: Final = (
    "id, queue, task, status, run_at, priority, delivery, retries, crashes, owner, ended, "
    "created_at, started_at, finished_at, policy, body, note, result, content_type"
)
"""Columns of a record, in the order in which every statement writes them."""

_DROP_OLD: Final = """
with old as (
    delete from aioq.job_done
    where id in (select id from aioq.job where {which})
    returning queue, status
)
insert into aioq.tally (queue, status, number)
select queue, status, -count(*) from old group by queue, status
"""
_OF_IDS: Final = _DROP_OLD.format(which="id = any($1::uuid[])")
_OF_RUNNING: Final = _DROP_OLD.format(which="state = 4 and queue >= ''")


async def fetch_recording(
    connection: Connection, texts: Texts, text: str, *values: Any, ids: Sequence[UUID] | None
) -> list[Any]:
    """Rows of a statement that writes records of ``ids``, or of running jobs (None).

    A live job whose id was used before may stand beside the record of that life. Nearly never; so
    the record is not looked for, but removed when it is in the way.
    """
    try:
        return await connection.fetch(texts(text), *values)
    except asyncpg.UniqueViolationError:
        if ids is None:
            await connection.execute(texts(_OF_RUNNING))
        else:
            await connection.execute(texts(_OF_IDS), list(ids))
        return await connection.fetch(texts(text), *values)
