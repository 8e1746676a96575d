"""``RunningJob``: one attempt, as the middleware around it sees it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from aioq._clock import from_ms
from aioq._context import Context
from aioq._options import TaskOptions
from aioq._records import Delivery
from aioq._wire import Note, Policy

__all__ = ["RunningJob", "StopReason"]

StopReason: TypeAlias = Literal["cancel", "lost", "shutdown"]


class RunningJob:
    """One running attempt: what travelled with the job, and what middleware adds.

    Attributes:
        id, task_name, queue: of the job.
        attempt: counts from 1; a retry is the next attempt.
        retries, max_retries: spent so far, and allowed.
        args, kwargs: converted arguments, without ``ctx``; a layer may replace them.
        ctx: the task's first argument; a layer may add keys.
        headers: text that came with the job, unchanged across attempts.
        carried: text a layer left at the previous attempt.
        carry: text to leave for the next attempt.
        worker_id: the executing worker.
        policy, options: what the job was enqueued with, and what its task says now.
        state: a place for middleware, empty at each attempt.
        kept: the value to be saved as the result, see ``keep``.
        packed, unsaved: that value and the bytes to be saved, or why there are none.
        stop_reason: why the worker cancels the attempt: its ``cancel`` was asked, its lease was
            ``lost``, or the worker's ``shutdown``; None as long as it does not.
    """

    __slots__ = (
        "_delivery",
        "_pack",
        "args",
        "attempt",
        "carried",
        "carry",
        "ctx",
        "has_result",
        "headers",
        "id",
        "kept",
        "kwargs",
        "max_retries",
        "options",
        "packed",
        "policy",
        "queue",
        "retries",
        "state",
        "stop_reason",
        "task_name",
        "unsaved",
        "worker_id",
    )

    def __init__(
        self,
        delivery: Delivery,
        *,
        policy: Policy,
        options: TaskOptions,
        note: Note,
        headers: dict[str, str],
        args: list[Any],
        kwargs: dict[str, Any],
        ctx: Context[Any],
        worker_id: str,
        pack: Callable[[str, object], bytes] | None = None,
    ) -> None:
        """Made by the worker."""
        self._delivery = delivery
        self._pack = pack
        self.id = delivery.id
        self.task_name = delivery.task
        self.queue = delivery.queue
        self.retries = delivery.retries
        self.attempt = delivery.retries + 1
        self.max_retries = policy.max_retries
        self.policy = policy
        self.options = options
        self.headers: Mapping[str, str] = headers
        self.carried: Mapping[str, str] = note.carry
        self.carry: dict[str, str] = {}
        self.args = args
        self.kwargs = kwargs
        self.ctx = ctx
        self.worker_id = worker_id
        self.state: dict[Any, Any] = {}
        self.kept: Any = None
        self.has_result = False
        self.packed: tuple[object, bytes] | None = None
        self.unsaved: Exception | None = None
        self.stop_reason: StopReason | None = None

    def keep(self, value: object) -> None:
        """Save ``value``, as it is now, as the result, in the same step in which the job completes.

        Raises:
            SerializationError: it cannot be stored.
            PayloadTooLarge: it is larger than the broker allows.
        """
        # now, so that the layers around see the attempt fail that has no result to save
        try:
            self.packed = None if self._pack is None else (value, self._pack(self.task_name, value))
        except Exception as exc:
            self.unsaved = exc
            raise
        self.kept = value
        self.has_result = True

    @property
    def delivery(self) -> int:
        """Counts the hand-outs of the job from 1, those included that ended with their worker."""
        return self._delivery.number

    @property
    def crashes(self) -> int:
        """How many of its workers died while they ran it."""
        return self._delivery.crashes

    @property
    def enqueued_at(self) -> datetime:
        """By the store's clock, UTC."""
        return from_ms(self._delivery.enqueued_ms)

    @property
    def due_at(self) -> datetime:
        """When this attempt became due, by the store's clock, UTC."""
        return from_ms(self._delivery.due_ms)

    @property
    def due_after(self) -> float:
        """Seconds from the enqueue until this attempt was due, both by the store's clock."""
        return (self._delivery.due_ms - self._delivery.enqueued_ms) / 1000

    @property
    def wait_time(self) -> float:
        """Seconds from due to handed out, both by the store's clock."""
        return max(0, self._delivery.claimed_ms - self._delivery.due_ms) / 1000

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} task={self.task_name!r} attempt={self.attempt}>"
