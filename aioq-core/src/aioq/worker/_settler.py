"""Group commit of settlements: outcomes gather while a call is on the wire, the next takes all.

No outcome is dropped while the store is out of reach: it is sent again until the store has
answered. The bounded backlog holds the worker back, not the outcomes.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

import anyio

from aioq import _background
from aioq._broker import BaseBroker
from aioq._loop import stray_cancel
from aioq._records import Settled, Settlement
from aioq._wire import Note, encode_note
from aioq.errors import BatchRejected, BrokerError
from aioq.worker._attempts import Attempt
from aioq.worker._health import Health
from aioq.worker._trouble import Trouble

__all__ = ["Ending", "Settler"]

CALLS_IN_FLIGHT = 2
BACKLOG = 10_000
BACKLOG_BYTES = 64 * 1_048_576
BATCH_BYTES = 1_048_576
LONGEST_PAUSE = 2.0


class Ending:
    """One outcome on its way to the store, and then what the store said of it.

    The token is the attempt's when it is sent: a job that the store has meanwhile handed back to
    this worker is settled under its new token.
    """

    __slots__ = ("answer", "answered", "attempt", "refused", "repeated", "settlement", "token")

    def __init__(
        self, attempt: Attempt, settlement: Settlement, answered: "Callable[[Ending], None]"
    ) -> None:
        self.attempt = attempt
        self.settlement = settlement
        self.answered = answered
        self.answer: Settled = "stale"
        self.token = settlement.token
        """Under which it was settled; the attempt may have got a newer one since."""
        self.refused: BatchRejected | None = None
        """The outcome could not be stored: the job has failed because of this."""
        self.repeated = False


class _Batch:
    """Outcomes that travel together."""

    __slots__ = ("endings", "size")

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.size = 0


class Settler:
    """Settles the attempts of one worker."""

    def __init__(self, broker: BaseBroker, health: Health, log: Any, context: Context) -> None:
        self._broker = broker
        self._context = context
        self._health = health
        self._log = log
        self._most = broker.capabilities.max_batch
        self._batches: deque[_Batch] = deque()
        self._calls = 0
        self._tasks: set[_background.Task] = set()
        self._trouble = Trouble("settle", health, log)
        self._change = anyio.Event()
        self.given_up = False
        self._bytes = 0
        self.open = 0
        """Outcomes the store has not answered yet."""

    @property
    def full(self) -> bool:
        """Whether the worker should claim nothing more for now."""
        return self.open >= BACKLOG or self._bytes >= BACKLOG_BYTES

    def settle(
        self, attempt: Attempt, settlement: Settlement, answered: Callable[[Ending], None]
    ) -> None:
        """Hand the outcome over; ``answered`` is called with it once the store has answered.

        ``stale`` means that another delivery owns the job now. A ``stale`` that may only be the
        echo of our own earlier copy is reported as ``already``.
        """
        batch = self._batches[-1] if self._batches else None
        if batch is None or len(batch.endings) >= self._most or batch.size >= BATCH_BYTES:
            batch = _Batch()
            self._batches.append(batch)
        batch.endings.append(Ending(attempt, settlement, answered))
        size = len(settlement.result or b"") + len(settlement.note or b"")
        batch.size += size
        self._bytes += size
        self.open += 1
        if self._calls < CALLS_IN_FLIGHT:
            self._calls += 1
            task = _background.start(self._run(), "aioq.settle", self._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def give_up(self) -> None:
        """Ask the store no more; nobody hears of an answer any longer."""
        self.given_up = True
        self._batches.clear()
        for task in self._tasks:
            task.cancel()

    async def room(self) -> None:
        """Wait until the backlog is half empty."""
        while self.open > BACKLOG // 2 or self._bytes > BACKLOG_BYTES // 2:
            await self._changed()

    async def _changed(self) -> None:
        if self._change.is_set():
            self._change = anyio.Event()
        await self._change.wait()

    async def _run(self) -> None:
        try:
            while self._batches:
                batch = self._batches.popleft()
                await self._send(batch.endings)
                if self.given_up:  # trio cancels only at the next wait
                    return
                # who is cancelled before has heard nothing, and tells nobody anything
                self.open -= len(batch.endings)
                self._bytes -= batch.size
                self._change.set()
                self._tell(batch.endings)
        finally:
            self._calls -= 1

    def _tell(self, endings: list[Ending]) -> None:
        for ending in endings:
            try:
                ending.answered(ending)
            except Exception as exc:  # costs nobody else their answer
                reason = f"{type(exc).__name__}: {exc}"
                self._log.error("worker.error", loop="settle", reason=reason, exc_info=True)

    async def _send(self, endings: list[Ending]) -> None:
        while endings:
            for ending in endings:
                token = ending.token = ending.attempt.token
                if ending.settlement.token != token:
                    ending.settlement = ending.settlement._replace(token=token)
            try:
                answers = await self._call(endings)
            except BatchRejected as exc:
                await self._split(endings, exc)
                return
            again: list[Ending] = []
            for ending, answer in zip(endings, answers, strict=True):
                if answer == "stale" and ending.attempt.token != ending.token:
                    again.append(ending)
                elif answer == "stale" and ending.repeated:
                    ending.answer = "already"
                else:
                    ending.answer = answer
            endings = again

    async def _call(self, endings: list[Ending]) -> Sequence[Settled]:
        """Call the store until it answers.

        Raises:
            BatchRejected: an item cannot be stored; nothing was.
        """
        settlements = [ending.settlement for ending in endings]
        pause = 0.05
        while True:
            try:
                answers = await self._broker.settle(settlements)
                _check_number(len(settlements), len(answers))
            except BatchRejected:
                raise
            except BaseException as exc:
                if not (isinstance(exc, Exception) or stray_cancel(exc)):
                    raise
                self._trouble.met(exc)
            else:
                self._health.ok("settle")
                self._trouble.over()
                return answers
            for ending in endings:
                ending.repeated = True
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _split(self, endings: list[Ending], error: BatchRejected) -> None:
        """One outcome that cannot be stored costs only its own job, which fails with the reason."""
        if len(endings) > 1:
            half = len(endings) // 2
            await self._send(endings[:half])
            await self._send(endings[half:])
            return
        (ending,) = endings
        reason = f"its outcome cannot be stored: {error}"
        self._log.error(
            "job.failed",
            job_id=ending.attempt.delivery.id,
            task=ending.attempt.delivery.task,
            queue=ending.attempt.delivery.queue,
            reason=reason,
        )
        note = encode_note(Note(error=reason.encode("ascii", "replace").decode(), final=True))
        ending.token = ending.attempt.token
        ending.settlement = Settlement(ending.token, "failed", note=note)
        try:
            (ending.answer,) = await self._call([ending])
            ending.refused = error
        except BatchRejected as exc:
            self._log.error("job.unsettled", job_id=ending.attempt.delivery.id, reason=str(exc))


def _check_number(settlements: int, answers: int) -> None:
    if settlements != answers:
        raise BrokerError(
            f"the broker answered {answers} of {settlements} settlements: settle() has to answer "
            f"each, in order"
        )
