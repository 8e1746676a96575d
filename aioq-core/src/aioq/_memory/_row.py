"""One job of the memory broker, and the ordered places that hold waiting ones."""

import heapq
from typing import Literal, TypeAlias

from aioq._fence import Fence
from aioq._records import FINISHED, PRIORITY_HEAD_START_MS, Delivery, JobInfo, NewJob, Status

__all__ = ["Line", "Place", "Row"]

Place: TypeAlias = Literal["ready", "quarantine", "scheduled", "running", "done"]


class Row:
    """A job with everything that changes about it. ``place`` is its state."""

    __slots__ = (
        "body",
        "cancel_asked",
        "completed_ms",
        "content_type",
        "crashes",
        "disowned",
        "due_ms",
        "ended",
        "enqueued_ms",
        "from_quarantine",
        "job",
        "lease_until",
        "note",
        "number",
        "owner",
        "place",
        "result",
        "retries",
        "sort_key",
        "started_ms",
        "status",
    )

    def __init__(self, job: NewJob, now: int) -> None:
        self.job = job
        self.body: bytes | None = job.body
        self.place: Place = "ready"
        self.enqueued_ms = now
        self.started_ms: int | None = None
        self.completed_ms: int | None = None
        self.status: Status = "pending"
        """Only meaningful in the place *done*."""
        self.number = 0
        self.owner: str | None = None
        self.ended = False
        self.disowned = False
        """Requeued after a rescue: the last token, which never ended its delivery, is stale."""
        self.lease_until = 0
        self.from_quarantine = False
        self.cancel_asked = False
        self.retries = 0
        self.crashes = 0
        self.note: bytes | None = None
        self.result: bytes | None = None
        self.content_type: str | None = None
        self.due_at(max(job.at_ms, now) if job.at_ms is not None else now + job.delay_ms)

    def due_at(self, instant: int) -> None:
        self.due_ms = instant
        self.sort_key = instant - self.job.priority * PRIORITY_HEAD_START_MS

    @property
    def token(self) -> bytes:
        assert self.owner is not None
        return Fence(self.job.id, self.number, self.owner, self.enqueued_ms).pack()

    def owned_by(self, fence: Fence) -> bool:
        return self.number == fence.number and self.owner == fence.worker

    def delivery(self, now: int) -> Delivery:
        return Delivery(
            id=self.job.id,
            queue=self.job.queue,
            task=self.job.task,
            token=self.token,
            policy=self.job.policy,
            body=self.body or b"",
            note=self.note,
            number=self.number,
            retries=self.retries,
            crashes=self.crashes,
            priority=self.job.priority,
            quarantined=self.from_quarantine,
            enqueued_ms=self.enqueued_ms,
            due_ms=self.due_ms,
            claimed_ms=now,
        )

    def visible_status(self) -> Status:
        match self.place:
            case "done":
                return self.status
            case "running":
                return "running"
            case "scheduled":
                return "retrying" if self.retries else "scheduled"
            case _:
                return "pending"

    def info(self) -> JobInfo:
        status = self.visible_status()
        return JobInfo(
            id=self.job.id,
            queue=self.job.queue,
            task=self.job.task,
            status=status,
            policy=self.job.policy,
            body=self.body,
            note=self.note,
            priority=self.job.priority,
            delivery=self.number,
            retries=self.retries,
            crashes=self.crashes,
            enqueued_ms=self.enqueued_ms,
            run_at_ms=self.due_ms,
            started_ms=self.started_ms,
            completed_ms=self.completed_ms,
            worker_id=self.owner,
            result=self.result,
            content_type=self.content_type,
            quarantined=self.place == "quarantine",
            cancel_asked=self.cancel_asked and status not in FINISHED,
        )


class Line:
    """Rows of one place in order. Rows that have left it are dropped when they reach the head."""

    __slots__ = ("_heap", "_place", "live")

    def __init__(self, place: Place) -> None:
        self._place: Place = place
        self._heap: list[tuple[int, str, Row]] = []
        self.live = 0
        """Rows now in this place; the heap may hold leftovers besides."""

    def add(self, row: Row) -> None:
        row.place = self._place
        self.live += 1
        key = row.due_ms if self._place == "scheduled" else row.sort_key
        heapq.heappush(self._heap, (key, row.job.id, row))
        if len(self._heap) > 2 * self.live + 64:
            self._heap = [entry for entry in self._heap if self._stands(entry)]
            heapq.heapify(self._heap)

    def left(self) -> None:
        """A row of this place was moved elsewhere without ``pop``."""
        self.live -= 1

    def head(self) -> tuple[int, str, Row] | None:
        while self._heap:
            if self._stands(self._heap[0]):
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def pop(self) -> Row:
        """Remove the head, which must exist; the caller gives the row its new place."""
        self.live -= 1
        return heapq.heappop(self._heap)[2]

    def _stands(self, entry: tuple[int, str, Row]) -> bool:
        key, _, row = entry
        current = row.due_ms if self._place == "scheduled" else row.sort_key
        return row.place == self._place and key == current
