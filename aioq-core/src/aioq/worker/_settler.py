"""Group commit of settlements: outcomes gather while a call is on the wire, the next takes all.

No outcome is dropped while the store is out of reach: it is sent again until the store has
answered. The bounded backlog holds the worker back, not the outcomes.
"""

import random
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from typing import Any, NamedTuple

import anyio

from aioq import _background
from aioq._broker import BaseBroker
from aioq._records import Settled, Settlement, Token
from aioq._wire import Note, encode_note
from aioq.errors import BatchRejected, BrokerError, BrokerUnavailable
from aioq.worker._attempts import Attempt
from aioq.worker._health import Health

__all__ = ["Settler", "Stored"]

CALLS_IN_FLIGHT = 2
BACKLOG = 10_000
BACKLOG_BYTES = 64 * 1_048_576
BATCH_BYTES = 1_048_576
LONGEST_PAUSE = 2.0


class Stored(NamedTuple):
    """What the store said."""

    answer: Settled
    token: Token
    """Under which it was settled; the attempt may have got a newer one since."""
    refused: BatchRejected | None = None
    """The outcome could not be stored: the job has failed because of this."""


class _Entry:
    """One outcome on its way. The token is the attempt's when it is sent: a job that the store
    has meanwhile handed back to this worker is settled under its new token."""

    __slots__ = ("attempt", "repeated", "settlement", "stored")

    def __init__(self, attempt: Attempt, settlement: Settlement) -> None:
        self.attempt = attempt
        self.settlement = settlement
        self.stored = Stored("stale", settlement.token)
        self.repeated = False


class _Batch:
    """Outcomes that travel together; one event serves all who wait for them."""

    __slots__ = ("done", "entries", "size")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.size = 0
        self.done = anyio.Event()


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
        self._unavailable = False
        self._change = anyio.Event()
        self.given_up = False
        self._bytes = 0
        self.open = 0
        """Outcomes the store has not answered yet."""

    @property
    def full(self) -> bool:
        """Whether the worker should claim nothing more for now."""
        return self.open >= BACKLOG or self._bytes >= BACKLOG_BYTES

    async def settle(self, attempt: Attempt, settlement: Settlement) -> Stored:
        """Hand the outcome over and wait for the store's answer.

        ``stale`` means that another delivery owns the job now. A ``stale`` that may only be the
        echo of our own earlier copy is reported as ``already``.
        """
        batch = self._batches[-1] if self._batches else None
        if batch is None or len(batch.entries) >= self._most or batch.size >= BATCH_BYTES:
            batch = _Batch()
            self._batches.append(batch)
        entry = _Entry(attempt, settlement)
        batch.entries.append(entry)
        size = len(settlement.result or b"") + len(settlement.note or b"")
        batch.size += size
        self._bytes += size
        self.open += 1
        if self._calls < CALLS_IN_FLIGHT:
            self._calls += 1
            task = _background.start(self._run(), "aioq.settle", self._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await batch.done.wait()
        return entry.stored

    def give_up(self) -> None:
        """Ask the store no more; whoever waits for an answer must be cancelled as well."""
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
                try:
                    await self._send(batch.entries)
                finally:
                    self.open -= len(batch.entries)
                    self._bytes -= batch.size
                    batch.done.set()
                    self._change.set()
        finally:
            self._calls -= 1

    async def _send(self, entries: list[_Entry]) -> None:
        while entries:
            tokens = [entry.attempt.token for entry in entries]
            settlements = [
                entry.settlement
                if entry.settlement.token == token
                else entry.settlement._replace(token=token)
                for entry, token in zip(entries, tokens, strict=True)
            ]
            try:
                answers = await self._call(settlements, entries)
            except BatchRejected as exc:
                await self._split(entries, exc)
                return
            again: list[_Entry] = []
            for entry, token, answer in zip(entries, tokens, answers, strict=True):
                if answer == "stale" and entry.attempt.token != token:
                    again.append(entry)
                    continue
                echo = answer == "stale" and entry.repeated
                entry.stored = Stored("already" if echo else answer, token)
            entries = again

    async def _call(
        self, settlements: list[Settlement], entries: list[_Entry]
    ) -> Sequence[Settled]:
        """Call the store until it answers.

        Raises:
            BatchRejected: an item cannot be stored; nothing was.
        """
        pause = 0.05
        while True:
            try:
                answers = await self._broker.settle(settlements)
                _check_number(len(settlements), len(answers))
            except BatchRejected:
                raise
            except BrokerUnavailable as exc:
                if not self._unavailable:
                    self._log.warning("broker.unavailable", loop="settle", reason=str(exc))
                self._health.failed("settle", str(exc))
            except Exception as exc:
                reason = f"{type(exc).__name__}: {exc}"
                self._log.error("worker.error", loop="settle", reason=reason, exc_info=True)
                self._health.failed("settle", reason)
            else:
                self._health.ok("settle")
                self._unavailable = False
                return answers
            self._unavailable = True
            for entry in entries:
                entry.repeated = True
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _split(self, entries: list[_Entry], error: BatchRejected) -> None:
        """One outcome that cannot be stored costs only its own job, which fails with the reason."""
        if len(entries) > 1:
            half = len(entries) // 2
            await self._send(entries[:half])
            await self._send(entries[half:])
            return
        (entry,) = entries
        reason = f"its outcome cannot be stored: {error}"
        self._log.error(
            "job.failed",
            job_id=entry.attempt.delivery.id,
            task=entry.attempt.delivery.task,
            queue=entry.attempt.delivery.queue,
            reason=reason,
        )
        note = encode_note(Note(error=reason.encode("ascii", "replace").decode(), final=True))
        failed = Settlement(entry.attempt.token, "failed", note=note)
        try:
            (answer,) = await self._call([failed], [entry])
            entry.stored = Stored(answer, failed.token, error)
        except BatchRejected as exc:
            self._log.error("job.unsettled", job_id=entry.attempt.delivery.id, reason=str(exc))


def _check_number(settlements: int, answers: int) -> None:
    if settlements != answers:
        raise BrokerError(f"{settlements} settlements got {answers} answers")
