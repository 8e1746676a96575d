"""Scheduled jobs: the next due time, and their way to *ready*."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

from aioq_sqlite._rows import QUARANTINED, READY
from aioq_sqlite._tx import Tx

__all__ = ["next_due", "promote"]

_HEAD = """
    select run_at from job indexed by job_due
    where state = 1 and queue = ? order by run_at limit 1
"""
_PROMOTE = f"""
    update job set state = case when crashes >= 2 then {QUARANTINED} else {READY} end
    where seq in (
        select seq from job indexed by job_due
        where state = 1 and queue = ? and run_at <= ? order by run_at limit ?
    )
"""


def next_due(tx: Tx, queue: str) -> int | None:
    """When the next scheduled job of the queue is due; None when there is none."""
    row = tx.con.execute(_HEAD, (queue,)).fetchone()
    return row[0] if row else None


def promote(tx: Tx, queue: str, limit: int) -> int:
    """Move due jobs of the queue, the oldest first, to where workers find them; how many."""
    return tx.con.execute(_PROMOTE, (queue, tx.now, limit)).rowcount
