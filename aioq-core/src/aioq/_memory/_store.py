"""The state machine of a job on plain dictionaries: short, synchronous, one lock.

Every public method is one atomic step. This is the reference the other brokers are compared with,
so it favours the obvious over the fast.
"""

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from aioq._fence import Fence
from aioq._memory._row import Line, Place, Row
from aioq._records import (
    FINISHED,
    Added,
    CancelAnswer,
    Claimed,
    Delivery,
    Filter,
    JobInfo,
    NewJob,
    Page,
    QueueStats,
    Renewed,
    Settled,
    Settlement,
    Status,
    Token,
    Upkeep,
)
from aioq.errors import InvalidOption

__all__ = ["Store"]

PROMOTE_IN_CLAIM = 500
PRODUCER_TTL_MS = 3_600_000


class _Queue:
    __slots__ = ("paused", "quarantine", "ready", "scheduled")

    def __init__(self) -> None:
        self.ready = Line("ready")
        self.quarantine = Line("quarantine")
        self.scheduled = Line("scheduled")
        self.paused = False

    def line(self, place: Place) -> Line | None:
        match place:
            case "ready":
                return self.ready
            case "quarantine":
                return self.quarantine
            case "scheduled":
                return self.scheduled
            case _:
                return None


class Store:
    """All jobs of one memory broker."""

    def __init__(
        self, now: Callable[[], int], *, max_crashes: int, keep_finished_ms: int, max_records: int
    ) -> None:
        self._now = now
        self._max_crashes = max_crashes
        self._keep_finished_ms = keep_finished_ms
        self._max_records = max_records
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._queues: dict[str, _Queue] = {}
        self._running: dict[str, Row] = {}
        self._prunable: deque[tuple[int, Row]] = deque()
        self._producers: dict[tuple[bytes, str], tuple[int, int]] = {}
        self._stamp: int | None = None
        self._no_rescue_before = 0
        self.finished_now: list[str] = []
        """Ids that finished or vanished since the broker last took them."""

    # -- in ---------------------------------------------------------------------------------------

    def enqueue(
        self, jobs: Sequence[NewJob], producer: bytes, numbers: Mapping[str, int]
    ) -> list[Added]:
        with self._lock:
            now = self._now()
            seen: set[str] = set()
            for queue, number in numbers.items():
                last, _ = self._producers.get((producer, queue), (0, 0))
                if number <= last:
                    seen.add(queue)
                else:
                    self._producers[producer, queue] = (number, now)
            return [
                Added("already", now) if job.queue in seen else self._add(job, now) for job in jobs
            ]

    def _add(self, job: NewJob, now: int) -> Added:
        if job.id in self._rows:
            return Added("exists", now)
        row = self._rows[job.id] = Row(job, now)
        queue = self._queue(job.queue)
        (queue.scheduled if row.due_ms > now else queue.ready).add(row)
        return Added("new", now)

    def _queue(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue()
        return queue

    # -- out --------------------------------------------------------------------------------------

    def claim(
        self,
        names: Sequence[str],
        limit: int,
        worker: str,
        lease_ms: int,
        max_bytes: int,
        quarantined: bool,
    ) -> Claimed:
        with self._lock:
            now = self._now()
            queues = [self._queues[name] for name in names if name in self._queues]
            for queue in queues:
                self._promote(queue, now, PROMOTE_IN_CLAIM)
            jobs: list[Delivery] = []
            room = max_bytes
            for queue in queues:
                while len(jobs) < limit and (line := self._next_line(queue, quarantined)):
                    head = line.head()
                    assert head is not None
                    size = len(head[2].body or b"")
                    if jobs and size > room:
                        room = 0
                        break
                    room -= size
                    row = line.pop()
                    jobs.append(self._lease(row, worker, now + lease_ms, now, line))
                    quarantined = quarantined and not row.from_quarantine
                if room <= 0 and jobs:
                    break
            more = any(self._next_line(queue, quarantined) for queue in queues)
            heads = [head[0] for queue in queues if (head := queue.scheduled.head())]
            return Claimed(jobs, more, max(0, min(heads) - now) if heads else None)

    def _next_line(self, queue: _Queue, quarantined: bool) -> Line | None:
        """Where the queue's next job stands: quarantined jobs keep their turn among the others."""
        if queue.paused:
            return None
        ready = queue.ready.head()
        suspect = queue.quarantine.head() if quarantined else None
        if suspect is not None and (ready is None or suspect[:2] < ready[:2]):
            return queue.quarantine
        return queue.ready if ready is not None else None

    def _lease(self, row: Row, worker: str, until: int, now: int, line: Line) -> Delivery:
        adopted = row.owner == worker and not row.ended
        if adopted and row.crashes:
            row.crashes -= 1
        row.from_quarantine = line is self._queues[row.job.queue].quarantine
        row.place = "running"
        row.number += 1
        row.owner = worker
        row.ended = row.disowned = False
        row.lease_until = until
        row.started_ms = now
        self._running[row.job.id] = row
        return row.delivery(now)

    def renew(self, tokens: Iterable[Token], lease_ms: int) -> Renewed:
        with self._lock:
            now = self._now()
            self._touch(now, lease_ms)
            lost: list[Token] = []
            cancelled: list[Token] = []
            for token in tokens:
                row = self._holder(token)
                if row is None:
                    lost.append(token)
                    continue
                row.lease_until = now + lease_ms
                if row.cancel_asked:
                    cancelled.append(token)
            return Renewed(lost, cancelled)

    def _holder(self, token: Token) -> Row | None:
        found = self._of(token)
        if found is None:
            return None
        row, fence = found
        return row if row.place == "running" and row.owned_by(fence) else None

    def _of(self, token: Token) -> tuple[Row, Fence] | None:
        """Which job a token is for. One enqueued later under the same id is another job."""
        try:
            fence = Fence.unpack(token)
        except struct.error:
            return None
        row = self._rows.get(fence.job_id)
        return (row, fence) if row and row.enqueued_ms == fence.enqueued_ms else None

    def _touch(self, now: int, lease_ms: int) -> None:
        """After a gap nobody may be rescued before the living had a lease's time to renew."""
        if self._stamp is not None and now - self._stamp > lease_ms / 2:
            self._no_rescue_before = now + lease_ms
        self._stamp = now

    # -- ends -------------------------------------------------------------------------------------

    def settle(self, settlements: Iterable[Settlement]) -> list[Settled]:
        with self._lock:
            now = self._now()
            return [self._settle(item, now) for item in settlements]

    def _settle(self, item: Settlement, now: int) -> Settled:
        found = self._of(item.token)
        if found is None:
            return "stale"
        row, fence = found
        if row.owned_by(fence):
            if row.disowned:
                return "stale"
            if row.ended:
                return "already"
            waiting = row.place in ("ready", "quarantine", "scheduled")
            if row.place != "running" and not (waiting and item.kind == "completed"):
                return "stale"
        elif (
            item.kind == "completed"
            and row.number < fence.number
            and row.place in ("ready", "quarantine", "scheduled")
        ):
            row.number, row.owner = fence.number, fence.worker
        else:
            return "stale"
        self._apply(row, item, now)
        return "accepted"

    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        row.ended = True
        row.disowned = False
        if item.note is not None:
            row.note = item.note
        match item.kind:
            case "completed" | "failed" | "cancelled" | "dead":
                row.result, row.content_type = item.result, item.content_type
                self._finish(row, item.kind, now)
            case _ if row.cancel_asked:
                self._finish(row, "cancelled", now)
            case kind:
                if kind == "retry":
                    row.retries += 1
                if item.delay_ms > 0 or kind != "release":
                    row.due_at(now + item.delay_ms)
                self._wait(row, now)

    def _wait(self, row: Row, now: int) -> None:
        """To the place where a job that is not running belongs."""
        self._leave(row)
        queue = self._queue(row.job.queue)
        if row.due_ms > now:
            queue.scheduled.add(row)
        else:
            (queue.quarantine if row.crashes >= 2 else queue.ready).add(row)

    def _finish(self, row: Row, status: Status, now: int) -> None:
        self._leave(row)
        row.place = "done"
        row.status = status
        row.completed_ms = now
        row.cancel_asked = False
        if status == "completed":
            row.body = None
        if row.result is None:
            self._prunable.append((now, row))
        self.finished_now.append(row.job.id)

    def _leave(self, row: Row) -> None:
        line = self._queue(row.job.queue).line(row.place)
        if line is not None:
            line.left()
        self._running.pop(row.job.id, None)

    # -- upkeep -----------------------------------------------------------------------------------

    def upkeep(self, lease_ms: int, budget: int) -> Upkeep:
        with self._lock:
            now = self._now()
            self._touch(now, lease_ms)
            promoted = 0
            for queue in self._queues.values():
                promoted += self._promote(queue, now, budget - promoted)
            rescued, died = self._rescue(now, budget)
            trimmed = self._trim(now, budget)
            for key, (_, used) in list(self._producers.items())[:budget]:
                if now - used > PRODUCER_TTL_MS:
                    del self._producers[key]
            more = budget in (promoted, rescued, trimmed)
            return Upkeep(promoted, rescued, died, trimmed, more)

    def _promote(self, queue: _Queue, now: int, limit: int) -> int:
        done = 0
        while done < limit and (head := queue.scheduled.head()) and head[0] <= now:
            row = queue.scheduled.pop()
            (queue.quarantine if row.crashes >= 2 else queue.ready).add(row)
            done += 1
        return done

    def _rescue(self, now: int, limit: int) -> tuple[int, int]:
        if now < self._no_rescue_before:
            return 0, 0
        expired = [row for row in self._running.values() if row.lease_until < now][:limit]
        died = 0
        for row in expired:
            row.crashes += 1
            if row.cancel_asked:
                self._finish(row, "cancelled", now)
            elif row.from_quarantine and row.crashes >= self._max_crashes:
                self._finish(row, "dead", now)
                died += 1
            else:
                if row.crashes >= 3:
                    row.due_at(now + (10_000 if row.crashes == 3 else 60_000))
                self._wait(row, now)
        return len(expired), died

    def _trim(self, now: int, limit: int) -> int:
        done = 0
        while self._prunable and done < limit:
            finished, row = self._prunable[0]
            old = now - finished > self._keep_finished_ms
            if self._gone(finished, row):
                self._prunable.popleft()
            elif old or len(self._prunable) > self._max_records:
                self._prunable.popleft()
                self._remove(row)
                done += 1
            else:
                break
        return done

    def _gone(self, finished: int, row: Row) -> bool:
        """The record was deleted, or its job requeued and not finished in the same way since."""
        return (
            self._rows.get(row.job.id) is not row
            or row.place != "done"
            or row.completed_ms != finished
        )

    # -- by id and by filter -----------------------------------------------------------------------

    def get(self, job_ids: Iterable[str]) -> list[JobInfo | None]:
        with self._lock:
            return [row.info() if (row := self._rows.get(job_id)) else None for job_id in job_ids]

    def cancel(self, job_ids: Iterable[str]) -> list[tuple[CancelAnswer, Token | None]]:
        """Each answer comes with the token to stop, where its job runs."""
        with self._lock:
            now = self._now()
            return [self._cancel(job_id, now) for job_id in job_ids]

    def _cancel(self, job_id: str, now: int) -> tuple[CancelAnswer, Token | None]:
        row = self._rows.get(job_id)
        if row is None:
            return "absent", None
        if row.place == "done":
            return "finished", None
        if row.place == "running":
            row.cancel_asked = True
            return "asked", row.token
        self._finish(row, "cancelled", now)
        return "cancelled", None

    def requeue(self, job_ids: Iterable[str]) -> list[bool]:
        with self._lock:
            now = self._now()
            return [self._requeue(job_id, now) for job_id in job_ids]

    def _requeue(self, job_id: str, now: int) -> bool:
        row = self._rows.get(job_id)
        if row is None or row.place != "done" or row.status == "completed":
            return False
        row.retries = row.crashes = 0
        row.note = row.result = row.content_type = row.completed_ms = None
        row.disowned = row.disowned or not row.ended
        row.ended = True
        row.due_at(now)
        self._wait(row, now)
        return True

    def find(self, where: Filter, limit: int, cursor: str | None) -> Page:
        before = None if cursor is None else _place(cursor)
        with self._lock:
            rows = sorted(self._matching(where), key=lambda row: row.job.id, reverse=True)
            rows = [row for row in rows if before is None or row.job.id < before]
            page = [row.info() for row in rows[:limit]]
            return Page(page, page[-1].id if len(rows) > limit else None)

    def _matching(self, where: Filter) -> Iterator[Row]:
        horizon = None if where.finished_for_ms is None else self._now() - where.finished_for_ms
        for row in self._rows.values():
            if (
                (where.queue is None or row.job.queue == where.queue)
                and (where.task is None or row.job.task == where.task)
                and (where.status is None or row.visible_status() in where.status)
                and (
                    horizon is None
                    or (row.completed_ms is not None and row.completed_ms <= horizon)
                )
            ):
                yield row

    def delete(self, job_ids: Iterable[str]) -> list[bool]:
        with self._lock:
            return [self._delete(job_id) for job_id in job_ids]

    def _delete(self, job_id: str) -> bool:
        row = self._rows.get(job_id)
        if row is None or row.place == "running":
            return False
        self._remove(row)
        return True

    def _remove(self, row: Row) -> None:
        self._leave(row)
        row.place = "done"
        del self._rows[row.job.id]
        self.finished_now.append(row.job.id)

    def delete_where(self, where: Filter, limit: int) -> int:
        with self._lock:
            rows = [row for row in self._matching(where) if row.place != "running"][:limit]
            for row in rows:
                self._remove(row)
            return len(rows)

    def count_where(self, where: Filter) -> int:
        with self._lock:
            return sum(row.place != "running" for row in self._matching(where))

    def counts(self, names: Sequence[str] | None) -> list[QueueStats]:
        with self._lock:
            now = self._now()
            wanted = sorted(self._queues if names is None else set(names))
            tallies: dict[str, dict[str, int]] = {name: {} for name in wanted}
            oldest: dict[str, int] = {}
            for row in self._rows.values():
                tally = tallies.get(row.job.queue)
                if tally is None:
                    continue
                status = row.visible_status()
                tally[status] = tally.get(status, 0) + 1
                if row.place == "quarantine":
                    tally["quarantined"] = tally.get("quarantined", 0) + 1
                if status not in FINISHED and row.place != "running" and row.due_ms <= now:
                    due = oldest.get(row.job.queue, now)
                    oldest[row.job.queue] = min(due, row.due_ms)
            return [
                QueueStats(
                    name,
                    **tallies[name],
                    oldest_due=(now - oldest[name]) / 1000 if name in oldest else None,
                    paused=name in self._queues and self._queues[name].paused,
                )
                for name in wanted
            ]

    def set_paused(self, queue: str, paused: bool) -> None:
        with self._lock:
            self._queue(queue).paused = paused

    def take_finished(self) -> list[str]:
        with self._lock:
            taken, self.finished_now = self.finished_now, []
            return taken


def _place(cursor: str) -> str:
    """Where a page begins: below this id."""
    try:
        return str(UUID(cursor))
    except ValueError:
        raise InvalidOption(
            f"{cursor!r} is no cursor that a listing gave: pass that of the page before, or none"
        ) from None
