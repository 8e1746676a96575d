"""All jobs of one file, and their moves from place to place. It knows neither files nor clocks."""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from aioq import plugins as spi

KEEP_MS = 7 * 86_400_000  # records of finished jobs
HOUR_MS = 3_600_000


class Row(msgspec.Struct, array_like=True):
    """A job; `place` is its state: ready, quarantine, scheduled, running, or how it finished."""

    job: spi.NewJob
    enqueued_ms: int
    due_ms: int
    place: str = "ready"
    number: int = 0
    owner: str | None = None
    ended: bool = False
    suspect: bool = False  # handed out from quarantine
    lease_until: int = 0
    retries: int = 0
    crashes: int = 0
    note: bytes | None = None
    started_ms: int | None = None
    completed_ms: int | None = None
    keep_until: int = 0
    result: bytes | None = None
    content_type: str | None = None

    @property
    def waits(self) -> bool:
        return self.place in ("ready", "quarantine", "scheduled")

    @property
    def status(self) -> spi.Status:
        if self.place == "scheduled":
            return "retrying" if self.retries else "scheduled"
        return next((status for status in spi.STATUSES if status == self.place), "pending")

    @property
    def turn(self) -> tuple[int, str]:
        return self.due_ms - self.job.priority * spi.PRIORITY_HEAD_START_MS, self.job.id

    def wait(self, now: int) -> None:
        due = "quarantine" if self.crashes >= 2 else "ready"
        self.place = "scheduled" if self.due_ms > now else due

    def finish(self, status: str, now: int, keep_ms: int = KEEP_MS) -> None:
        self.place, self.completed_ms, self.keep_until = status, now, now + keep_ms
        if status == "completed":
            self.job = self.job._replace(body=b"")

    def lease(self, worker: str, now: int, lease_ms: int) -> spi.Delivery:
        if self.owner == worker and not self.ended and self.crashes:
            self.crashes -= 1  # its own worker takes it up again: that was no crash
        self.suspect = self.place == "quarantine"
        self.place, self.owner, self.ended = "running", worker, False
        self.number, self.started_ms, self.lease_until = self.number + 1, now, now + lease_ms
        job, token = self.job, spi.Fence(self.job.id, self.number, worker).pack()
        return spi.Delivery(
            job.id, job.queue, job.task, token, job.policy, job.body, self.note, self.number,
            self.retries, self.crashes, job.priority, self.suspect, self.enqueued_ms, self.due_ms,
            claimed_ms=now,
        )  # fmt: skip

    def info(self) -> spi.JobInfo:
        job, body = self.job, None if self.place == "completed" else self.job.body
        return spi.JobInfo(
            job.id, job.queue, job.task, self.status, job.policy, body, self.note, job.priority,
            self.number, self.retries, self.crashes, self.enqueued_ms, self.due_ms,
            self.started_ms, self.completed_ms, self.owner, self.result, self.content_type,
            quarantined=self.place == "quarantine",
        )  # fmt: skip


class Jobs(msgspec.Struct):
    """What is in the file. `now` is the store's clock; the rest is as docs/brokers.md tells it."""

    rows: dict[str, Row] = {}
    batches: dict[str, tuple[int, int]] = {}  # producer and queue: last number, and when
    stamp: int = 0  # of the last renewal or upkeep
    no_rescue_before: int = 0

    def enqueue(
        self, now: int, jobs: Sequence[spi.NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[spi.Added]:
        seen: set[str] = set()
        for queue, number in numbers.items():
            key = f"{producer.hex()} {queue}"
            if number <= self.batches.get(key, (0, 0))[0]:
                seen.add(queue)
            else:
                self.batches[key] = (number, now)
        return [
            spi.Added("already", now) if job.queue in seen else self._add(job, now) for job in jobs
        ]

    def _add(self, job: spi.NewJob, now: int) -> spi.Added:
        if job.id in self.rows:
            return spi.Added("exists", now)
        due = now + job.delay_ms if job.at_ms is None else max(job.at_ms, now)
        row = self.rows[job.id] = Row(job, now, due)
        row.wait(now)
        return spi.Added("new", now)

    def claim(
        self, now: int, queues: Sequence[str], limit: int, *, worker: str, lease_ms: int,
        max_bytes: int = 1_048_576, quarantined: bool = True,
    ) -> spi.Claimed:  # fmt: skip
        self._promote(now, 500, queues)
        jobs: list[spi.Delivery] = []
        more = False
        for row in self._in_turn(queues):
            if row.place == "quarantine" and not quarantined:
                continue
            max_bytes -= len(row.job.body)
            if len(jobs) == limit or (jobs and max_bytes < 0):
                more = True
                break
            quarantined = quarantined and row.place != "quarantine"
            jobs.append(row.lease(worker, now, lease_ms))
        later = [r for r in self.rows.values() if r.place == "scheduled" and r.job.queue in queues]
        due_in = max(0, min(row.due_ms for row in later) - now) if later else None
        return spi.Claimed(jobs, more, due_in)

    def _in_turn(self, queues: Sequence[str]) -> Iterator[Row]:
        for queue in queues:
            rows = [r for r in self.rows.values() if r.job.queue == queue]
            claimable = [r for r in rows if r.place in ("ready", "quarantine")]
            yield from sorted(claimable, key=lambda row: row.turn)

    def settle(self, now: int, settlements: Sequence[spi.Settlement]) -> Sequence[spi.Settled]:
        return [self._settle(item, now) for item in settlements]

    def _settle(self, item: spi.Settlement, now: int) -> spi.Settled:
        row, fence, last = self._find(item.token)
        if row is None or fence is None:
            return "stale"
        if last and row.ended:
            return "already"
        late = item.kind == "completed" and row.waits  # it was rescued, or the claim is lost
        if not (
            (last and (row.place == "running" or late)) or (late and row.number < fence.number)
        ):
            return "stale"
        row.number, row.owner, row.ended = fence.number, fence.worker, True
        row.note = row.note if item.note is None else item.note
        if item.kind in spi.FINISHED:
            row.finish(item.kind, now, max(KEEP_MS, item.result_ttl_ms or 0))
            row.result, row.content_type = item.result, item.content_type
            return "accepted"
        row.retries += item.kind == "retry"
        if item.delay_ms or item.kind != "release":
            row.due_ms = now + item.delay_ms
        row.wait(now)
        return "accepted"

    def _find(self, token: spi.Token) -> tuple[Row | None, spi.Fence | None, bool]:
        """A token's job, what is in the token, and whether it is the job's last one."""
        try:
            fence = spi.Fence.unpack(token)
            row = self.rows[fence.job_id]
        except (struct.error, KeyError):
            return None, None, False
        return row, fence, (row.number, row.owner) == (fence.number, fence.worker)

    def renew(self, now: int, tokens: Sequence[spi.Token], lease_ms: int) -> spi.Renewed:
        self._touch(now, lease_ms)
        lost: list[spi.Token] = []
        for token in tokens:
            row, _, last = self._find(token)
            if row and last and row.place == "running":
                row.lease_until = now + lease_ms
            else:
                lost.append(token)
        return spi.Renewed(lost)

    def _touch(self, now: int, lease_ms: int) -> None:
        if self.stamp and now - self.stamp > lease_ms / 2:  # a silence: the living renew first
            self.no_rescue_before = now + lease_ms
        self.stamp = now

    def upkeep(
        self, now: int, queues: Sequence[str], *, lease_ms: int, budget: int = 500
    ) -> spi.Upkeep:
        self._touch(now, lease_ms)
        promoted = self._promote(now, budget)
        late = [r for r in self.rows.values() if r.place == "running" and r.lease_until < now]
        late = late[:budget] if now >= self.no_rescue_before else []
        died = sum(self._rescue(row, now) for row in late)
        old = [r for r in self.rows.values() if r.place in spi.FINISHED and r.keep_until < now]
        for row in old[:budget]:
            del self.rows[row.job.id]
        self.batches = {key: used for key, used in self.batches.items() if now - used[1] <= HOUR_MS}
        counts = (promoted, len(late), len(old[:budget]))
        return spi.Upkeep(promoted, len(late), died, len(old[:budget]), budget in counts)

    def _promote(self, now: int, limit: int, queues: Sequence[str] | None = None) -> int:
        rows = [r for r in self.rows.values() if r.place == "scheduled" and r.due_ms <= now]
        due = [r for r in rows if queues is None or r.job.queue in queues]
        for row in sorted(due, key=lambda row: row.due_ms)[:limit]:
            row.wait(now)
        return min(len(due), limit)

    def _rescue(self, row: Row, now: int) -> bool:
        row.crashes += 1
        if row.suspect and row.crashes >= 3:
            row.finish("dead", now)
            return True
        if row.crashes >= 3:
            row.due_ms = now + (10_000 if row.crashes == 3 else 60_000)
        row.wait(now)
        return False

    def counts(self, now: int, queues: Sequence[str] | None) -> list[spi.QueueStats]:
        known = {row.job.queue for row in self.rows.values()}
        return [self._count(now, queue) for queue in sorted(known if queues is None else queues)]

    def _count(self, now: int, queue: str) -> spi.QueueStats:
        rows = [row for row in self.rows.values() if row.job.queue == queue]
        at = Counter(row.status for row in rows)
        due = [row.due_ms for row in rows if row.waits and row.due_ms <= now]
        return spi.QueueStats(
            queue, at["pending"], at["scheduled"], at["running"], at["retrying"], at["completed"],
            at["failed"], at["cancelled"], at["dead"], sum(r.place == "quarantine" for r in rows),
            (now - min(due)) / 1000 if due else None,
        )  # fmt: skip
