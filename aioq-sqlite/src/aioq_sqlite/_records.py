"""What a finished job leaves, and the tally of it by queue and status."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

import json
import sqlite3
from collections.abc import Iterable

from aioq.plugins import Status
from aioq_sqlite._rows import STATUS
from aioq_sqlite._tx import Tx, marks, portions

__all__ = ["COLUMNS", "begin", "finish", "remove", "remove_numbered", "tally"]

COLUMNS = (
    "id, queue, task, status, run_at, priority, delivery, retries, crashes, owner, ended, "
    "created_at, started_at, finished_at, policy, body, note, result, content_type"
)
_FINISH = f"""
    insert into job_done ({COLUMNS})
    select id, queue, task, :status, run_at, priority, delivery, retries, crashes, owner,
        iif(:ended, 1, ended), created_at, started_at, :now, policy,
        case when :status > 10 then body end, coalesce(:note, note), :result, :content_type
    from job where seq = :seq
"""
_ADD = """
    on conflict (queue, status) do update set number = number + excluded.number
"""


def begin(tx: Tx) -> None:
    """Called before records are written."""
    if tx.records_from is None:
        (last,) = tx.con.execute("select max(seq) from job_done").fetchone()
        tx.records_from = last or 0


def tally(tx: Tx) -> None:
    """Count the records written since ``begin``; called at the end of every operation."""
    if tx.records_from is not None:
        tx.con.execute(
            "insert into tally select queue, status, count(*) from job_done where seq > ? "
            "group by queue, status" + _ADD,
            (tx.records_from,),
        )
        tx.records_from = None


def finish(
    tx: Tx,
    seq: int,
    status: Status,
    *,
    ended: bool = False,
    note: bytes | None = None,
    result: bytes | None = None,
    content_type: str | None = None,
) -> None:
    """Write the record of the live job ``seq``, then remove the job.

    Args:
        tx: the transaction.
        seq: number of its row.
        status: how it finished.
        ended: its owner ends its last delivery now.
        note: replaces the note of the job.
        result: what it returned.
        content_type: of the result.
    """
    begin(tx)
    values = {
        "seq": seq,
        "status": STATUS[status],
        "ended": ended,
        "now": tx.now,
        "note": note,
        "result": result,
        "content_type": content_type,
    }
    try:
        tx.con.execute(_FINISH, values)
    except sqlite3.IntegrityError:
        # The id was used before, and the record of that life is still kept.
        remove(tx, [tx.con.execute("select id from job where seq = ?", (seq,)).fetchone()[0]])
        begin(tx)
        tx.con.execute(_FINISH, values)
    tx.con.execute("delete from job where seq = ?", (seq,))


def remove(tx: Tx, ids: Iterable[bytes]) -> int:
    """Remove records by id; how many there were."""
    tally(tx)
    removed = 0
    for portion in portions(list(ids)):
        where = f"from job_done where id in {marks(1, len(portion))}"
        tx.con.execute(
            f"insert into tally select queue, status, -count(*) {where} group by queue, status"
            + _ADD,
            portion,
        )
        removed += tx.con.execute(f"delete {where}", portion).rowcount
    return removed


def remove_numbered(tx: Tx, numbers: Iterable[int]) -> int:
    """Remove records by row number; how many there were."""
    tally(tx)
    where = "from job_done where seq in (select value from json_each(?))"
    values = (json.dumps(list(numbers)),)
    tx.con.execute(
        f"insert into tally select queue, status, -count(*) {where} group by queue, status" + _ADD,
        values,
    )
    return tx.con.execute(f"delete {where}", values).rowcount
