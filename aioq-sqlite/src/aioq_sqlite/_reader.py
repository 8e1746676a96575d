"""The thread that reads: look-ups, those who wait for the end of a job, and the slow poll."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from aioq.errors import BrokerError
from aioq_sqlite._calls import Answer, Call, CallThread, ThreadCall, closed, deliver
from aioq_sqlite._errors import translate
from aioq_sqlite._look import get_ended
from aioq_sqlite._store import Store
from aioq_sqlite._tx import Tx

__all__ = ["Reader", "Watch"]

LOOK_EVERY = 0.01
"""Seconds between two looks for commits while somebody waits for the end of a job."""
NUDGE_EVERY = 1.0
"""Seconds between two looks on behalf of workers, in case a doorbell was not heard."""


class Watch:
    """The operation of a call that waits for the end of a job.

    Its answer is the record, or None for an unknown job.
    """

    __slots__ = ("job_id",)

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id

    def __call__(self, tx: Tx) -> Any:
        """By itself it does nothing: the reader looks for all that are watched at once."""


class Reader(CallThread):
    """Answers all calls that wait from one snapshot. Its connection belongs to the store."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        super().__init__("aioq-sqlite-reader")
        self._store = store
        self._clock = clock
        self._where = str(store.path)
        self._watches: list[tuple[bytes, Call]] = []
        self._listeners: set[Callable[[], None]] = set()
        self._looked_at = self._nudged_at = -1
        self._next_look = self._next_nudge = 0.0

    def listen(self, nudge: Callable[[], None]) -> None:
        """Call ``nudge`` (in this thread) at most once a second, after somebody has committed."""
        if not self._listeners:
            self._next_nudge = time.monotonic() + NUDGE_EVERY
        self._listeners.add(nudge)
        self.put(ThreadCall(_nothing))

    def leave(self, nudge: Callable[[], None]) -> None:
        """Undo ``listen``."""
        self._listeners.discard(nudge)

    def _begin(self) -> None:
        self._nudged_at = self._version()

    def _end(self) -> None:
        self._answer_watches(closed())

    def _serve(self) -> None:
        if self._watches:
            timeout: float | None = LOOK_EVERY
        else:
            timeout = NUDGE_EVERY if self._listeners else None
        calls = self._take(timeout)
        watches = [(o.job_id, call) for call in calls if isinstance(o := call.operation, Watch)]
        others = [call for call in calls if not isinstance(call.operation, Watch)]
        if others:
            self._read(others)
        if watches:
            self._watches += watches
            self._next_look, self._looked_at = 0.0, -1
        if not self._stopping:
            self._poll()

    def _read(self, calls: Sequence[Call]) -> None:
        answers: list[Answer] = []
        try:
            tx = self._snapshot()
            try:
                for call in calls:
                    try:
                        answers.append(Answer(call, call.operation(tx)))
                    except Exception as exc:
                        answers.append(Answer(call, None, translate(exc, self._where)))
            finally:
                tx.con.rollback()
        except Exception as exc:
            answers = [Answer(call, None, translate(exc, self._where)) for call in calls]
        deliver(answers)

    def _snapshot(self) -> Tx:
        self._store.check()
        con = self._store.reading
        con.execute("begin")
        return Tx(con, self._clock())

    def _poll(self) -> None:
        now = time.monotonic()
        looks = bool(self._watches) and now >= self._next_look
        nudges = bool(self._listeners) and now >= self._next_nudge
        if not looks and not nudges:
            return
        version = self._version()
        if looks:
            self._next_look = now + LOOK_EVERY
            if version != self._looked_at:
                self._looked_at = version
                self._look()
        if nudges:
            self._next_nudge = now + NUDGE_EVERY
            if version != self._nudged_at:
                self._nudged_at = version
                for nudge in list(self._listeners):
                    nudge()

    def _version(self) -> int:
        try:
            self._store.check()
            return int(self._store.reading.execute("pragma data_version").fetchone()[0])
        except (sqlite3.Error, OSError, BrokerError):
            # Look as if something had changed: the query that follows tells what is wrong.
            return -2

    def _look(self) -> None:
        self._watches = [watch for watch in self._watches if watch[1].wanted()]
        try:
            tx = self._snapshot()
            try:
                ended: dict[bytes, Any] = get_ended(tx, {job_id for job_id, _ in self._watches})
            finally:
                tx.con.rollback()
        except Exception as exc:
            self._answer_watches(exc)
            return
        deliver(Answer(call, ended[job_id]) for job_id, call in self._watches if job_id in ended)
        self._watches = [watch for watch in self._watches if watch[0] not in ended]

    def _answer_watches(self, error: Exception) -> None:
        deliver(Answer(call, None, translate(error, self._where)) for _, call in self._watches)
        self._watches = []


def _nothing(tx: Tx) -> None:
    """An operation that only wakes the thread."""
