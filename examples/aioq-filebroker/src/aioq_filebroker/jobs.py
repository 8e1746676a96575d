"""All jobs of one file, and their moves from place to place. It knows neither files nor clocks."""

import struct
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec

from aioq import plugins as spi

HOUR_MS = 3_600_000
LATER = ("scheduled", "retrying")


class Row(msgspec.Struct, array_like=True):
    """A job: what is answered when somebody asks for it, and what its moves need besides."""

    info: spi.JobInfo  # `status` is the place; quarantine is `pending` and `quarantined`
    token: spi.Token = b""  # of its last delivery
    ended: bool = False  # that was settled
    suspect: bool = False  # that came from quarantine
    until_ms: int = 0  # when its lease runs out, or its record is dropped

    def turn(self, queues: Sequence[str]) -> tuple[int, int, str]:
        due = self.info.run_at_ms - self.info.priority * spi.PRIORITY_HEAD_START_MS
        return queues.index(self.info.queue), due, self.info.id

    def put(self, **changes: Any) -> None:
        self.info = self.info._replace(**changes)

    def wait(self, now: int, **changes: Any) -> None:
        """To where a job belongs that does not run: scheduled, quarantine, or ready."""
        self.put(**changes)
        later = self.info.run_at_ms > now
        status = ("retrying" if self.info.retries else "scheduled") if later else "pending"
        self.put(status=status, quarantined=not later and self.info.crashes >= 2)

    def finish(self, now: int, status: str, keep_ms: int = 0, **changes: Any) -> None:
        body = None if status == "completed" else self.info.body
        self.put(status=status, quarantined=False, completed_ms=now, body=body, **changes)
        self.until_ms = now + max(keep_ms, 7 * 24 * HOUR_MS)

    def rescue(self, now: int) -> bool:
        """Take it from a worker that seems dead; True when the job ends by it."""
        self.put(crashes=self.info.crashes + 1)
        if self.suspect and self.info.crashes >= 3:
            self.finish(now, "dead")
        elif self.info.crashes >= 3:
            self.wait(now, run_at_ms=now + (10_000 if self.info.crashes == 3 else 60_000))
        else:
            self.wait(now)
        return self.info.status == "dead"

    def lease(self, now: int, worker: str, lease_ms: int) -> spi.Delivery:
        if self.info.worker_id == worker and not self.ended and self.info.crashes:
            self.put(crashes=self.info.crashes - 1)  # its own worker goes on: that was no crash
        self.suspect, self.ended, self.until_ms = self.info.quarantined, False, now + lease_ms
        self.put(status="running", quarantined=False, worker_id=worker, started_ms=now)
        self.put(delivery=self.info.delivery + 1)
        i = self.info
        self.token = spi.Fence(i.id, i.delivery, worker, i.enqueued_ms).pack()
        return spi.Delivery(
            i.id, i.queue, i.task, self.token, i.policy, i.body or b"", i.note, i.delivery,
            i.retries, i.crashes, i.priority, self.suspect, i.enqueued_ms, i.run_at_ms, now,
        )  # fmt: skip


class Jobs(msgspec.Struct):
    """What is in the file. `now` is the store's clock; the rest is as docs/brokers.md tells it."""

    rows: dict[str, Row] = {}
    batches: dict[str, tuple[int, int]] = {}  # producer and queue: last number, and when
    stamp: int = 0  # of the last renewal or upkeep
    rescue_from: int = 0

    def _at(self, *places: str, queues: Collection[str] | None = None) -> list[Row]:
        rows = [row for row in self.rows.values() if row.info.status in places]
        return [row for row in rows if queues is None or row.info.queue in queues]

    def enqueue(
        self, now: int, jobs: Sequence[spi.NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[spi.Added]:
        sent = {queue: f"{producer.hex()} {queue}" for queue in numbers}
        new = {q for q, key in sent.items() if numbers[q] > self.batches.get(key, (0, 0))[0]}
        self.batches |= {sent[queue]: (numbers[queue], now) for queue in new}
        return [spi.Added(self._add(now, j) if j.queue in new else "already", now) for j in jobs]

    def _add(self, now: int, job: spi.NewJob) -> Literal["new", "exists"]:
        if job.id in self.rows:
            return "exists"
        due = now + job.delay_ms if job.at_ms is None else max(job.at_ms, now)
        info = spi.JobInfo(
            job.id, job.queue, job.task, "pending", job.policy, job.body, None, job.priority,
            delivery=0, retries=0, crashes=0, enqueued_ms=now, run_at_ms=due,
        )  # fmt: skip
        self.rows[job.id] = row = Row(info)
        row.wait(now)
        return "new"

    def claim(
        self, now: int, queues: Sequence[str], limit: int, *, worker: str, lease_ms: int,
        max_bytes: int = 1_048_576, quarantined: bool = True,
    ) -> spi.Claimed:  # fmt: skip
        self._promote(now, 500, queues)
        jobs: list[spi.Delivery] = []
        more = False
        for row in sorted(self._at("pending", queues=queues), key=lambda row: row.turn(queues)):
            if row.info.quarantined and not quarantined:
                continue
            max_bytes -= len(row.info.body or b"")
            if more := len(jobs) == limit or (bool(jobs) and max_bytes < 0):
                break
            quarantined = quarantined and not row.info.quarantined
            jobs.append(row.lease(now, worker, lease_ms))
        later = [row.info.run_at_ms for row in self._at(*LATER, queues=queues)]
        return spi.Claimed(jobs, more, max(0, min(later) - now) if later else None)

    def settle(self, now: int, settlements: Sequence[spi.Settlement]) -> Sequence[spi.Settled]:
        return [self._settle(now, item) for item in settlements]

    def _settle(self, now: int, item: spi.Settlement) -> spi.Settled:
        try:
            fence = spi.Fence.unpack(item.token)
            row = self.rows[fence.job_id]
        except (struct.error, KeyError):
            return "stale"
        last, waits = item.token == row.token, row.info.status in ("pending", *LATER)
        if last and row.ended:
            return "already"
        # It was rescued, or its claim is lost: work that is done counts while nobody else has it,
        # unless it was another job, which had the id before.
        lost = fence.number > row.info.delivery and fence.enqueued_ms == row.info.enqueued_ms
        late = item.kind == "completed" and waits and (last or lost)
        if not late and not (last and row.info.status == "running"):
            return "stale"
        row.token, row.ended = item.token, True
        note = row.info.note if item.note is None else item.note
        row.put(delivery=fence.number, worker_id=fence.worker, note=note)
        if item.kind in spi.FINISHED:
            saved = {"result": item.result, "content_type": item.content_type}
            row.finish(now, item.kind, item.result_ttl_ms or 0, **saved)
        else:
            keeps_turn = item.kind == "release" and not item.delay_ms
            due = row.info.run_at_ms if keeps_turn else now + item.delay_ms
            row.wait(now, run_at_ms=due, retries=row.info.retries + (item.kind == "retry"))
        return "accepted"

    def renew(self, now: int, tokens: Sequence[spi.Token], lease_ms: int) -> spi.Renewed:
        self._touch(now, lease_ms)
        running = {row.token: row for row in self._at("running")}
        for token in running.keys() & tokens:
            running[token].until_ms = now + lease_ms
        return spi.Renewed([token for token in tokens if token not in running])

    def _touch(self, now: int, lease_ms: int) -> None:
        if self.stamp and now - self.stamp > lease_ms / 2:  # a silence: the living renew first
            self.rescue_from = now + lease_ms
        self.stamp = now

    def upkeep(self, now: int, queues: object, *, lease_ms: int, budget: int = 500) -> spi.Upkeep:
        self._touch(now, lease_ms)
        promoted = self._promote(now, budget)
        lost = [r for r in self._at("running") if r.until_ms < now >= self.rescue_from][:budget]
        died = sum(row.rescue(now) for row in lost)
        old = [row for row in self._at(*spi.FINISHED) if row.until_ms < now][:budget]
        for row in old:
            del self.rows[row.info.id]
        self.batches = {key: last for key, last in self.batches.items() if last[1] > now - HOUR_MS}
        more = budget in (promoted, len(lost), len(old))
        return spi.Upkeep(promoted, len(lost), died, len(old), more)

    def _promote(self, now: int, limit: int, queues: Sequence[str] | None = None) -> int:
        due = [r for r in self._at(*LATER, queues=queues) if r.info.run_at_ms <= now][:limit]
        for row in due:
            row.wait(now)
        return len(due)

    def get(self, now: int, job_ids: Sequence[str]) -> Sequence[spi.JobInfo | None]:
        return [self.rows[job_id].info if job_id in self.rows else None for job_id in job_ids]

    def counts(self, now: int, queues: Sequence[str] | None = None) -> Sequence[spi.QueueStats]:
        known = {row.info.queue for row in self.rows.values()}
        return [self._count(now, queue) for queue in sorted(known if queues is None else queues)]

    def _count(self, now: int, queue: str) -> spi.QueueStats:
        infos = [row.info for row in self.rows.values() if row.info.queue == queue]
        at = Counter(str(i.status) for i in infos)
        suspects = sum(i.quarantined for i in infos)
        due = [i.run_at_ms for i in infos if i.status in ("pending", *LATER) and i.run_at_ms <= now]
        oldest = (now - min(due)) / 1000 if due else None
        return spi.QueueStats(queue, **at, quarantined=suspects, oldest_due=oldest, paused=False)
