"""Group commit of enqueues: what is waiting goes out in one call, and is never stored twice.

There is no timer. While one call is on the wire new jobs gather; the next call takes all of them,
up to a batch and a megabyte.
A single job that finds no call on the wire is sent by its caller's own task, which spares it two
turns of the event loop; all else by a task of aioq's own. Each call numbers its batch per queue, so
that it can be repeated after a lost reply: the store answers ``already`` to a number it has seen
(see ``BaseBroker.enqueue``).
"""

import math
import os
import random
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from copy import copy
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio

from aioq import _background
from aioq._broker import BaseBroker
from aioq._clock import monotonic
from aioq._loop import stray_cancel
from aioq._records import Added, Capabilities, NewJob
from aioq.errors import AioqError, BatchRejected, BrokerUnavailable, EnqueueError

__all__ = ["Answer", "Sender"]

Answer: TypeAlias = Added | AioqError
_Numbered: TypeAlias = tuple[Sequence[NewJob], dict[str, int], float]

BATCH_BYTES: Final = 1_048_576
"""Of all bodies in a call; a single larger one goes alone, and so do those of one caller where they
are one transaction."""
_CLOSED = "the app was closed before the job was sent: it is not stored"


@dataclass(slots=True)
class _Call:
    """The jobs of one caller, who waits for the answers since an instant (monotonic)."""

    jobs: Sequence[NewJob]
    since: float
    answers: list[Answer] = field(default_factory=list[Answer])


class _Batch:
    """Whole calls that travel together; one event serves all who wait for them."""

    __slots__ = ("bytes", "calls", "done", "size")

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.size = 0
        self.bytes = 0
        self.done = anyio.Event()


class Sender:
    """Sends jobs to one broker from one event loop.

    Args:
        broker: an open broker.
        patience: seconds for which a caller waits while the store is out of reach.
        context: what it sends in copies of.
    """

    def __init__(
        self, broker: BaseBroker, *, patience: float = 30.0, context: Context | None = None
    ) -> None:
        self._broker = broker
        self._context = context or Context()
        self._patience = patience
        self._producer = os.urandom(8)
        self._numbers: dict[str, int] = {}
        self._waiting: deque[_Batch] = deque()
        self._sending = False
        self._task: _background.Task | None = None
        self._gone_since: float | None = None
        """The store has been out of reach since this instant (monotonic)."""
        self._closed = False

    async def send(self, jobs: Sequence[NewJob]) -> list[Answer]:
        """One answer per job, in order: stored, or why not.

        The store goes on with what it was handed when the awaiting task is cancelled.
        """
        if self._closed:
            return [EnqueueError(_CLOSED)] * len(jobs)
        if not self._sending and len(jobs) == 1:
            return await self._send_at_once(jobs)
        call = _Call(jobs, monotonic())
        batch = self._join(call)
        if not self._sending:
            self._sending = True
            self._go_on()
        await batch.done.wait()
        return call.answers

    def _join(self, call: _Call) -> _Batch:
        """The batch it goes with: up to what the broker takes at once; a larger call goes alone."""
        size, weight = len(call.jobs), sum(len(job.body) for job in call.jobs)
        most = self._broker.capabilities.max_batch
        batch = self._waiting[-1] if self._waiting else None
        if batch is None or batch.size + size > most or batch.bytes + weight > BATCH_BYTES:
            batch = _Batch()
            self._waiting.append(batch)
        batch.calls.append(call)
        batch.size += size
        batch.bytes += weight
        return batch

    async def _send_at_once(self, jobs: Sequence[NewJob]) -> list[Answer]:
        self._sending = True
        numbered = (jobs, self._number(jobs), monotonic())
        unanswered = None
        try:
            answers = _background.within(self._context.copy(), self._submit(*numbered))
            return list(await answers)
        except BatchRejected as exc:
            return [_refused(exc)]
        except anyio.get_cancelled_exc_class() as exc:
            if stray_cancel(exc):
                return [_interrupted(exc)]
            # the store may have it or not: sent again under its number it has it once
            unanswered = numbered
            raise
        except GeneratorExit:
            # the loop is gone, and with it all who wait
            self._waiting.clear()
            raise
        finally:
            if self._waiting or unanswered:
                self._go_on(unanswered)
            else:
                self._sending = False

    def _go_on(self, unanswered: _Numbered | None = None) -> None:
        """Let a task of aioq's own send what is waiting, and before it what nobody waits for."""
        self._task = _background.start(self._run(unanswered), "aioq.enqueue", self._context)

    def hang_up(self) -> None:
        """The broker closes: answer those whose jobs are not on their way yet, and send no more."""
        self._closed = True
        self._turn_away(_CLOSED)

    def _turn_away(self, reason: str) -> None:
        while self._waiting:
            batch = self._waiting.popleft()
            for call in batch.calls:
                call.answers.extend([EnqueueError(reason)] * len(call.jobs))
            batch.done.set()

    async def close(self) -> None:
        """Give up what is still on its way: the loop ends, and nobody waits any more."""
        self.hang_up()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(anyio.get_cancelled_exc_class()):
                await _background.join(self._task)

    async def _run(self, unanswered: _Numbered | None) -> None:
        try:
            if unanswered is not None:
                await self._send_again(*unanswered)
            while self._waiting:
                batch = self._waiting.popleft()
                try:
                    await self._send(batch.calls)
                finally:
                    batch.done.set()
        except BaseException as exc:
            if not isinstance(exc, GeneratorExit):  # the loop is gone, and with it all who wait
                self._turn_away(f"the enqueue was interrupted ({exc!r}): it is not stored")
            raise
        finally:
            self._sending = False

    async def _send_again(
        self, jobs: Sequence[NewJob], numbers: dict[str, int], since: float
    ) -> None:
        """What nobody waits for any more."""
        try:
            await self._submit(jobs, numbers, since)
        except BatchRejected:
            return
        except anyio.get_cancelled_exc_class() as exc:
            if not stray_cancel(exc):
                raise

    async def _send(self, calls: list[_Call]) -> None:
        """Answer every one of these calls, whatever happens."""
        try:
            if len(calls) == 1:
                await self._send_alone(calls[0])
            else:
                await self._send_together(calls)
        except BaseException as exc:
            for call in calls:
                missing = len(call.jobs) - len(call.answers)
                call.answers.extend([_interrupted(exc)] * missing)
            if not (isinstance(exc, Exception) or stray_cancel(exc)):
                raise

    async def _send_together(self, calls: list[_Call]) -> None:
        try:
            jobs = [job for call in calls for job in call.jobs]
            answers = await self._submit(jobs, self._number(jobs), calls[-1].since)
        except BatchRejected:
            half = len(calls) // 2
            await self._send(calls[:half])
            await self._send(calls[half:])
            return
        if isinstance(answers[0], AioqError):
            # each caller raises it, with a traceback and notes that are no business of the others
            answers = [error for call in calls for error in [copy(answers[0])] * len(call.jobs)]
        rest = iter(answers)
        for call in calls:
            call.answers.extend(next(rest) for _ in call.jobs)

    async def _send_alone(self, call: _Call) -> None:
        for jobs in _portions(call.jobs, self._broker.capabilities):
            call.answers.extend(await self._split(jobs, call.since))

    async def _split(self, jobs: Sequence[NewJob], since: float) -> Sequence[Answer]:
        """One caller's jobs; without transactions a bad one costs only itself."""
        try:
            return await self._submit(jobs, self._number(jobs), since)
        except BatchRejected as exc:
            if len(jobs) == 1 or self._broker.capabilities.transactional_batches:
                return [_refused(exc)] * len(jobs)
        half = len(jobs) // 2
        return [*await self._split(jobs[:half], since), *await self._split(jobs[half:], since)]

    def _number(self, jobs: Sequence[NewJob]) -> dict[str, int]:
        """The next number of each of their queues."""
        numbers = {job.queue: self._numbers.get(job.queue, 0) + 1 for job in jobs}
        self._numbers.update(numbers)
        return numbers

    async def _submit(
        self, jobs: Sequence[NewJob], numbers: dict[str, int], since: float
    ) -> Sequence[Answer]:
        """One numbered call, repeated with the same numbers while the store is out of reach and the
        patience of the caller who came last lasts; time before the outage does not count.

        Raises:
            BatchRejected: an item cannot be stored; nothing was.
        """
        pause = 0.05
        while True:
            try:
                answers = await self._broker.enqueue(jobs, producer=self._producer, numbers=numbers)
            except BatchRejected:
                raise
            except AioqError as exc:
                if self._closed:
                    lost = EnqueueError(
                        f"the app was closed while the job was sent ({exc}); it may be stored or "
                        f"not"
                    )
                    return [lost] * len(jobs)
                if not isinstance(exc, BrokerUnavailable):
                    return [exc] * len(jobs)
                if self._gone_since is None:
                    self._gone_since = monotonic()
                if monotonic() + pause > max(since, self._gone_since) + self._patience:
                    lost = EnqueueError(
                        f"{self._broker.url} did not answer for {self._patience:g} s ({exc}); "
                        f"the job may be stored or not"
                    )
                    return [lost] * len(jobs)
            except Exception as exc:
                refused = EnqueueError(f"the enqueue failed: {type(exc).__name__}: {exc}")
                refused.__cause__ = exc
                return [refused] * len(jobs)
            else:
                self._gone_since = None
                return answers
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 2.0)


def _portions(jobs: Sequence[NewJob], able: Capabilities) -> Iterator[Sequence[NewJob]]:
    """What one caller sends, in as few calls as the broker takes."""
    most_bytes = math.inf if able.transactional_batches else BATCH_BYTES
    start = weight = 0
    for index, job in enumerate(jobs):
        weight += len(job.body)
        if index > start and (index - start >= able.max_enqueue or weight > most_bytes):
            yield jobs[start:index]
            start, weight = index, len(job.body)
    yield jobs[start:]


def _refused(error: BatchRejected) -> EnqueueError:
    return EnqueueError(f"the store refused it: {error}")


def _interrupted(error: BaseException) -> EnqueueError:
    return EnqueueError(f"the enqueue was interrupted ({error!r}); it may be stored")
