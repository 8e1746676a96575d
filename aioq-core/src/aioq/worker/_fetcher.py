"""Claims jobs into free slots: never more than can start at once."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from aioq._broker import BaseBroker
from aioq._clock import monotonic
from aioq._records import Claimed
from aioq.worker._attempts import Attempt, Attempts
from aioq.worker._contexts import JobContexts
from aioq.worker._loops import Rest
from aioq.worker._options import WorkerOptions
from aioq.worker._settler import Settler

__all__ = ["Fetcher"]

LONGEST_POLL = 5.0
SHORTEST_POLL = 0.01


class Fetcher:
    """One claim loop.

    Args:
        broker: where to claim.
        worker_id: owner of the deliveries.
        queues: the queues to serve.
        options: lease, burst, strict.
        attempts: the slots.
        settler: holds the fetcher back while too many outcomes are open.
        contexts: what claimed jobs run in.
        start: starts a claimed job.
        log: a logger.
    """

    def __init__(
        self,
        broker: BaseBroker,
        worker_id: str,
        queues: tuple[str, ...],
        options: WorkerOptions,
        attempts: Attempts,
        settler: Settler,
        contexts: JobContexts,
        start: Callable[[Attempt], None],
        log: Any,
    ) -> None:
        self._broker = broker
        self._worker_id = worker_id
        self._queues = queues
        self._options = options
        self._attempts = attempts
        self._settler = settler
        self._contexts = contexts
        self._start = start
        self._log = log
        self._lease_ms = int(options.lease * 1000)
        self._most = broker.capabilities.max_batch
        self._turn = 0
        self._awake = anyio.Event()
        self._ended = anyio.Event()
        self._pause = anyio.CancelScope()
        self._stopped = False
        self.exhausted = anyio.Event()
        """Set in burst mode: nothing is due and nothing runs."""

    def wake(self) -> None:
        """There may be work."""
        self._awake.set()

    def stop(self) -> None:
        """Wait for nothing any more; a claim on the wire comes to its end."""
        self._stopped = True
        self._pause.cancel()

    async def step(self) -> Rest | None:
        """Claim into free slots and start what was claimed; rest where there was nothing."""
        if self.exhausted.is_set():  # the worker is about to stop
            return partial(self._wait, anyio.sleep_forever, None)
        if self._settler.full:
            await self._wait(self._settler.room, None)
        wanted = min(self._attempts.free, self._most)
        if wanted <= 0:
            return partial(self._wait, self._attempts.changed, LONGEST_POLL)
        if self._stopped:
            return None
        self._awake = anyio.Event()
        self._ended = self._attempts.next_change()
        idle = not len(self._attempts)
        quarantined = not self._attempts.holds_quarantined
        trusted_until = monotonic() + self._options.lease
        claimed = await self._broker.claim(
            self._in_turn(),
            wanted,
            worker=self._worker_id,
            lease_ms=self._lease_ms,
            quarantined=quarantined,
        )
        for delivery in claimed.jobs:
            held = self._attempts.of(delivery)
            if held is None:
                attempt = Attempt(delivery, trusted_until, self._contexts.fresh(delivery))
                self._attempts.add(attempt)
                self._start(attempt)
            else:
                self._attempts.adopt(held, delivery, trusted_until)
                self._log.warning("job.adopted", job_id=delivery.id, task=delivery.task)
        if claimed.jobs:
            return None
        # a job that ended after the store looked may have enqueued another before
        if self._options.burst and idle and not claimed.more and not self._awake.is_set():
            self.exhausted.set()
        return self._rest(claimed, quarantined)

    def _in_turn(self) -> tuple[str, ...]:
        if self._options.strict or len(self._queues) == 1:
            return self._queues
        self._turn = (self._turn + 1) % len(self._queues)
        return self._queues[self._turn :] + self._queues[: self._turn]

    def _rest(self, claimed: Claimed, quarantined: bool) -> Rest:
        """Sleep until a hint, until the next job is due, or for a poll; hardly at all where the
        store has more that it did not find at once."""
        pause = SHORTEST_POLL if claimed.more else LONGEST_POLL
        if claimed.due_in_ms is not None:
            pause = min(pause, max(SHORTEST_POLL, claimed.due_in_ms / 1000 + 0.001))
        news = self._awake.wait
        event = self._any_news if self._options.burst or not quarantined else news
        return partial(self._wait, event, pause)

    async def _wait(self, event: Callable[[], Awaitable[None]], seconds: float | None) -> None:
        """Wait for ``event``, or so long, or until the worker stops."""
        with anyio.move_on_after(seconds) as self._pause:
            if not self._stopped:
                await event()

    async def _any_news(self) -> None:
        """A hint, or an attempt that ended since the claim was sent (it may have been the one in
        quarantine)."""
        async with anyio.create_task_group() as group:

            async def first(event: Callable[[], Awaitable[None]]) -> None:
                await event()
                group.cancel_scope.cancel()

            group.start_soon(first, self._awake.wait)
            group.start_soon(first, self._ended.wait)
