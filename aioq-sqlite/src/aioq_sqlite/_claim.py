"""Handing out jobs."""

# ruff: noqa: S608 - only constants are put into the text of a statement, never a value

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from aioq.plugins import Claimed, Delivery
from aioq_sqlite._due import next_due, promote
from aioq_sqlite._rows import QUARANTINED, READY, RUNNING, make_token, need_id, to_text
from aioq_sqlite._tx import Tx

__all__ = ["claim"]

PROMOTE_AT_MOST = 500
PACK_AT_MOST = 131_072
"""Bytes of bodies up to which a claim is read in one step, as JSON (see ``_tx.PORTIONS``)."""

Head: TypeAlias = tuple[int, str, int, int]
"""Sort key, id in hexadecimal, row number, bytes of the body."""

_HEADS = """
    select json_group_array(json_array(sort_key, hex(id), seq, length(body))) from (
        select sort_key, id, seq, body from job indexed by {}
        where state = {} and queue = ? order by sort_key, id limit ?
    )
"""
_READY = _HEADS.format("job_ready", READY)
_QUARANTINED = _HEADS.format("job_quarantined", QUARANTINED)
_ANY_QUARANTINED = (
    f"select 1 from job indexed by job_quarantined where state = {QUARANTINED} limit 1"
)
# A worker that gets back what a rescue took from it is alive: nothing crashed.
_LEASE = f"""
    update job set
        state = {RUNNING}, delivery = delivery + 1, suspect = state = {QUARANTINED},
        crashes = crashes - (crashes > 0 and ended = 0 and owner is :owner),
        owner = :owner, ended = 0, lease_until = :until, started_at = :now
    where seq in (select value from json_each(:numbers))
"""
_COLUMNS = (
    "seq, {id}, queue, task, {policy}, {body}, {note}, delivery, retries, crashes, priority, "
    "suspect, created_at, run_at"
)
_BLOBS = ("id", "policy", "body", "note")
_FROM = "from job where seq in (select value from json_each(?))"
_ROWS = f"select {_COLUMNS.format(**{name: name for name in _BLOBS})} {_FROM}"
_PACKED = (
    f"select json_group_array(json_array("
    f"{_COLUMNS.format(**{name: f'iif({name} is null, null, hex({name}))' for name in _BLOBS})}"
    f")) {_FROM}"
)


def claim(
    tx: Tx,
    queues: Sequence[str],
    limit: int,
    worker: str,
    lease_ms: int,
    max_bytes: int,
    quarantined: bool,
) -> Claimed:
    """As ``BaseBroker.claim``."""
    owner = need_id(worker)
    queues = list(dict.fromkeys(queues))
    due = _promote(tx, queues)
    paused = {name for (name,) in tx.con.execute("select name from queue where paused = 1")}
    quarantined = quarantined and tx.con.execute(_ANY_QUARANTINED).fetchone() is not None
    taken: list[int] = []
    left: set[str] = set()
    size, full = 0, limit < 1
    for queue in queues:
        if queue in paused:
            continue
        for _, _, seq, length, suspect in _line(
            tx, queue, 1 if full else limit - len(taken) + 1, quarantined
        ):
            full = full or len(taken) >= limit or (bool(taken) and size + length > max_bytes)
            if full:
                left.add(queue)
                break
            size += length
            taken.append(seq)
            quarantined = quarantined and not suspect
    jobs = _lease(tx, taken, size, owner, lease_ms) if taken else []
    tx.work |= left
    tx.rooms[worker] = None if left or len(jobs) >= limit else queues
    return Claimed(jobs, bool(left), None if due is None else max(0, due - tx.now))


def _promote(tx: Tx, queues: Sequence[str]) -> int | None:
    """Promote a bounded number of due jobs; when the next one is due."""
    heads: list[int] = []
    budget = PROMOTE_AT_MOST
    for queue in queues:
        head = next_due(tx, queue)
        if head is not None and head <= tx.now and budget > 0:
            budget -= promote(tx, queue, budget)
            head = next_due(tx, queue)
        if head is not None:
            heads.append(head)
    return min(heads, default=None)


def _line(tx: Tx, queue: str, limit: int, quarantined: bool) -> Iterator[tuple[*Head, bool]]:
    """The queue's next jobs in order, one quarantined job in its turn among them."""
    suspect = next(iter(_heads(tx, _QUARANTINED, queue, 1)), None) if quarantined else None
    for head in _heads(tx, _READY, queue, limit):
        if suspect is not None and suspect[:2] < head[:2]:
            yield (*suspect, True)
            suspect = None
        yield (*head, False)
    if suspect is not None:
        yield (*suspect, True)


def _heads(tx: Tx, sql: str, queue: str, limit: int) -> list[Head]:
    heads: list[Head] = json.loads(tx.con.execute(sql, (queue, limit)).fetchone()[0])
    return heads


def _lease(tx: Tx, taken: Sequence[int], size: int, owner: bytes, lease_ms: int) -> list[Delivery]:
    numbers = json.dumps(taken)
    values = {"owner": owner, "until": tx.now + lease_ms, "now": tx.now, "numbers": numbers}
    tx.con.execute(_LEASE, values)
    if size <= PACK_AT_MOST:
        (packed,) = tx.con.execute(_PACKED, (numbers,)).fetchone()
        rows: Iterable[Sequence[Any]] = map(_unpack, json.loads(packed))
    else:
        rows = tx.con.execute(_ROWS, (numbers,))
    found = {row[0]: _deliver(row, owner, tx.now) for row in rows}
    return [found[seq] for seq in taken]


def _unpack(row: list[Any]) -> list[Any]:
    unhex = bytes.fromhex
    row[1], row[4], row[5] = unhex(row[1]), unhex(row[4]), unhex(row[5])
    if row[6] is not None:
        row[6] = unhex(row[6])
    return row


def _deliver(row: Sequence[Any], owner: bytes, now: int) -> Delivery:
    _, job_id, queue, task, policy, body, note, number, retries, crashes, priority = row[:11]
    return Delivery(
        to_text(job_id),
        queue,
        task,
        make_token(job_id, number, owner, row[12]),
        policy,
        body,
        note,
        number,
        retries,
        crashes,
        priority,
        bool(row[11]),
        row[12],
        row[13],
        now,
    )
