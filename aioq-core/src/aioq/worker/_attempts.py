"""What this worker holds: one ``Attempt`` per delivery, and the slots they take.

An attempt runs, then its outcome waits for the store, then its observers are told. Until the store
has answered the delivery is ours, and one that the store hands us anew is the same attempt; after
that the job may be back in the queue, or back here, while the observers of the old one still hear.
"""

from collections.abc import Iterable
from contextvars import Context
from enum import Enum
from typing import TypeAlias

import anyio

from aioq._background import Task
from aioq._records import Delivery, Token
from aioq.middleware import RunningJob, StopReason

__all__ = ["Attempt", "Attempts", "Cause"]


class Cause(Enum):
    """Why the worker itself cancelled a running attempt."""

    CANCEL = "its cancel was asked"
    LOST = "its lease was lost"
    REGAINED = "its lease was lost, and came back while it was being stopped"
    SHUTDOWN = "the worker stops"


_REASONS: dict[Cause, StopReason] = {
    Cause.CANCEL: "cancel",
    Cause.LOST: "lost",
    Cause.SHUTDOWN: "shutdown",
}


_Key: TypeAlias = tuple[str, int]


def _key(delivery: Delivery) -> _Key:
    """What tells a job from another that was enqueued under its id when it was gone."""
    return delivery.id, delivery.enqueued_ms


class Attempt:
    """One delivery in this process, from its claim until all have been told what became of it."""

    __slots__ = (
        "cause",
        "context",
        "delivery",
        "ended",
        "job",
        "started",
        "task",
        "token",
        "trusted_until",
    )

    def __init__(self, delivery: Delivery, trusted_until: float, context: Context) -> None:
        self.delivery = delivery
        self.context = context
        """What it runs in, and its observers after it."""
        self.token = delivery.token
        self.trusted_until = trusted_until
        """Until this instant (monotonic) the store cannot have given the job to anybody else."""
        self.task: Task | None = None
        self.job: RunningJob | None = None
        """None until it could be decoded and its task was found."""
        self.started = False
        self.ended = False
        """The verdict is made; only its settlement is open."""
        self.cause: Cause | None = None

    def stop(self, cause: Cause) -> None:
        """Cancel the job, unless it has ended or is being stopped already."""
        if self.ended or self.cause is not None:
            return
        self.cause = cause
        self._tell_why(cause)
        # one that has not begun sees the cause first thing; cancelled it would never run at all,
        # not even to the end that frees its slot
        if self.task is not None and self.started:
            self.task.cancel(cause.value)

    def abandon(self) -> None:
        """The worker is gone: do not go on, whatever the job is at."""
        if self.task is not None:
            self.cause = self.cause or Cause.SHUTDOWN
            self._tell_why(self.cause)
            self.task.cancel(self.cause.value)

    def _tell_why(self, cause: Cause) -> None:
        if self.job is not None and self.job.stop_reason is None:
            self.job.stop_reason = _REASONS.get(cause)

    def __str__(self) -> str:
        return f"job {self.delivery.id} of task {self.delivery.task!r}"


class Attempts:
    """All attempts of one worker, and its slots."""

    def __init__(self, concurrency: int) -> None:
        self.slots = concurrency
        self.kept = 0
        """Slots of jobs that were given up while their functions still run in threads."""
        self._by_job: dict[_Key, Attempt] = {}
        """Those whose delivery is ours."""
        self._telling: set[Attempt] = set()
        self._running = 0
        self._quarantined = 0
        self._change: anyio.Event | None = None

    @property
    def free(self) -> int:
        """Slots without a job that runs; observers that lag behind by more than all slots take
        some, too."""
        behind = max(0, len(self._telling) - self.slots)
        return max(0, self.slots - self._running - self.kept - behind)

    @property
    def running(self) -> int:
        return self._running

    @property
    def holds_quarantined(self) -> bool:
        """Whether a job suspected of killing its worker runs here; there may be only one."""
        return self._quarantined > 0

    def __len__(self) -> int:
        return len(self._by_job) + len(self._telling)

    def snapshot(self) -> list[Attempt]:
        """All attempts; safe to call from the lease thread."""
        return [*self.held(), *self._telling.copy()]

    def held(self) -> list[Attempt]:
        """Those whose leases are ours to keep; safe to call from the lease thread."""
        return list(self._by_job.values())

    def of(self, delivery: Delivery) -> Attempt | None:
        """The attempt that is at the very job of this delivery, held since an earlier one."""
        return self._by_job.get(_key(delivery))

    def add(self, attempt: Attempt) -> None:
        self._by_job[_key(attempt.delivery)] = attempt
        self._running += 1
        self._quarantined += attempt.delivery.quarantined

    def ended(self, attempt: Attempt) -> None:
        """The job no longer runs: its slot is free, its settlement open. Counts once."""
        if attempt.ended:
            return
        attempt.ended = True
        self._running -= 1
        self._quarantined -= attempt.delivery.quarantined
        self._changed()

    def keep_slot(self) -> None:
        """A function runs on although its job is given up."""
        self.kept += 1

    def give_slot_back(self) -> None:
        """Such a function has returned."""
        self.kept -= 1
        self._changed()

    def hold(self, attempt: Attempt) -> None:
        """A delivery that is ours, and does not run."""
        attempt.ended = True
        self._by_job[_key(attempt.delivery)] = attempt

    def tell(self, attempt: Attempt) -> None:
        """The store has answered: the delivery is no longer ours, only the observers must hear."""
        self._let_go(attempt)
        self._telling.add(attempt)

    def forget(self, attempt: Attempt) -> None:
        """All have been told, or the store will never be asked."""
        self._let_go(attempt)
        self._telling.discard(attempt)
        self._changed()

    def _let_go(self, attempt: Attempt) -> None:
        key = _key(attempt.delivery)
        if self._by_job.get(key) is attempt:
            del self._by_job[key]

    def adopt(self, attempt: Attempt, delivery: Delivery, trusted_until: float) -> None:
        """The store handed our own job back to us: go on with it under the new token."""
        if not attempt.ended:
            self._quarantined += delivery.quarantined - attempt.delivery.quarantined
        if attempt.cause is Cause.LOST:
            attempt.cause = Cause.REGAINED
        attempt.delivery = delivery
        attempt.token = delivery.token
        attempt.trusted_until = trusted_until

    def with_tokens(self, tokens: Iterable[Token]) -> list[Attempt]:
        wanted = set(tokens)
        return [attempt for attempt in self._by_job.values() if attempt.token in wanted]

    def next_change(self) -> anyio.Event:
        """Set when the next attempt ends or is forgotten, from now on."""
        if self._change is None:
            self._change = anyio.Event()
        return self._change

    def _changed(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None

    async def changed(self) -> None:
        """Wait until an attempt ends or is forgotten."""
        await self.next_change().wait()
