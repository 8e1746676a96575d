"""The lease thread: renews what this worker holds, and watches the event loop from outside.

It runs beside the loop, with a connection of its own, so that a task which blocks the loop does not
lose its job. It tells the loop nothing directly: the loop's ticker comes by and picks up the news.
"""

import asyncio
import random
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from types import FrameType
from typing import Any

from aioq._broker import BaseBroker
from aioq._clock import monotonic
from aioq._contract import LeaseClient
from aioq._loop import current_loop
from aioq._records import Renewed
from aioq.worker import _innermost
from aioq.worker._attempts import Attempt, Attempts
from aioq.worker._health import Health
from aioq.worker._options import WorkerOptions
from aioq.worker._trouble import Trouble

__all__ = ["LeaseKeeper"]

WARN_AFTER = 1.0
UNSTARTED_LIMIT = 2.0
TOKENS_PER_CALL = 5000
STACK_DEPTH = 12
CALL_OF_A_TASK = _innermost.__file__
STOOD_STILL = 0.5
STARVED_AFTER = 1.0
MAKE_WAY = 0.001
LONGEST_JOIN = 0.2
_frames_of_all_threads = sys._current_frames  # pyright: ignore[reportPrivateUsage] - documented


class LeaseKeeper:
    """Renews every third of a lease, from a daemon thread.

    Args:
        broker: gives the synchronous lease client.
        attempts: what to renew.
        options: lease and stall limit.
        health: told of each success.
        log: a logger.
        context: what the thread runs in a copy of.
    """

    def __init__(
        self,
        broker: BaseBroker,
        attempts: Attempts,
        options: WorkerOptions,
        health: Health,
        log: Any,
        context: Context,
    ) -> None:
        self._broker = broker
        self._attempts = attempts
        self._options = options
        self._health = health
        self._log = log
        self._lease_ms = int(options.lease * 1000)
        self._interval = options.lease / 3
        self._granularity = min(0.25, self._interval / 4)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=context.copy().run, args=(self._run,), name="aioq-leases", daemon=True
        )
        self._client: LeaseClient | None = None
        self._loop_thread = threading.get_ident()
        self._loop = current_loop()
        self._ticked = self._turned = monotonic()
        self._seen, self._excused = self._ticked, 0.0
        """The last tick this thread knows of, and how long all stood still since then."""
        self._warned = False
        self._trouble = Trouble("leases", health, log)
        self._due = monotonic() + self._interval
        self.news: deque[Renewed] = deque()
        """What the store said since the ticker last looked."""

    def start(self) -> None:
        self._ticked = self._turned = monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; a renewal on the wire is not waited for long, the loop stands still."""
        self._stop.set()
        self._thread.join(timeout=LONGEST_JOIN)

    def tick(self) -> None:
        """Called by the loop: it turns.

        A loop that is always busy with short turns takes the interpreter lock back before another
        thread has woken up. Where that has kept this thread from turning, the loop makes way.
        """
        self._ticked = monotonic()
        if self._ticked - self._turned > STARVED_AFTER:
            time.sleep(MAKE_WAY)

    @property
    def tick_every(self) -> float:
        """How often the loop should tick, in seconds."""
        return self._granularity

    def _run(self) -> None:
        while not self._rest():
            try:
                self._watch()
                if monotonic() >= self._due:
                    self._renew_all()
            except Exception as exc:
                self._trouble.met(exc)
                self._due = monotonic() + min(1.0, self._interval) * random.uniform(0.5, 1.0)
        try:
            if self._client is not None:
                self._client.close()
        except Exception as exc:
            self._trouble.met(exc)

    def _rest(self) -> bool:
        """Wait for the next round; whether there is none.

        Where this thread comes late and the process has done next to nothing meanwhile, all of it
        stood still: stopped, paused with its machine, or without a processor. Where it has worked,
        something kept the interpreter lock from this thread, and so from the loop.
        """
        began, worked = monotonic(), time.process_time()
        over = self._stop.wait(self._granularity)
        self._turned = monotonic()
        late = self._turned - began - self._granularity
        stood_still = late > STOOD_STILL and time.process_time() - worked < late / 2
        ticked, excused = self._ticked, late if stood_still else 0.0
        if ticked == self._seen:
            excused += self._excused
        self._seen, self._excused = ticked, min(excused, self._turned - ticked)
        return over

    def _blocked(self) -> float:
        """Seconds for which the loop has not turned although it could."""
        return self._turned - self._seen - self._excused

    def _renew_all(self) -> None:
        blocked, limit = self._blocked(), self._options.stall_limit
        # all silence counts here: one that stands still again and again must not go on for ever
        if limit is not None and self._turned - self._seen > limit:
            return
        if self._client is None:
            self._client = self._broker.for_lease_thread()
        held = [
            attempt
            for attempt in self._attempts.held()
            if attempt.started or blocked <= UNSTARTED_LIMIT
        ]
        for start in range(0, len(held), TOKENS_PER_CALL):
            self._renew(self._client, held[start : start + TOKENS_PER_CALL])
        self._trouble.over()
        self._health.ok("leases", idle=not held)
        self._due = monotonic() + self._interval

    def _renew(self, client: LeaseClient, held: Sequence[Attempt]) -> None:
        tokens = {attempt.token: attempt for attempt in held}
        trusted_until = monotonic() + self._options.lease
        renewed = client.renew(list(tokens), self._lease_ms)
        lost = set(renewed.lost)
        for token, attempt in tokens.items():
            if token not in lost and attempt.token == token:
                attempt.trusted_until = trusted_until
        if renewed.lost or renewed.cancelled:
            self.news.append(renewed)

    def _watch(self) -> None:
        blocked = self._blocked()
        if self._turned - self._seen <= WARN_AFTER:
            if self._warned:
                # what was not renewed during the block is renewed first thing after it
                self._due = 0.0
            self._warned = False
        elif blocked > WARN_AFTER and not self._warned:
            self._warned = True
            culprit = self._culprit()
            self._log.warning(
                "worker.loop_blocked",
                blocked_for=round(blocked, 1),
                job_id=culprit.delivery.id if culprit else None,
                task=culprit.delivery.task if culprit else None,
                stack=self._stack(),
                hint="a task blocks the event loop: make it a plain def, or await what it does",
            )

    def _culprit(self) -> Attempt | None:
        """Whose code the loop is executing; trio does not tell other threads."""
        if not isinstance(self._loop, asyncio.AbstractEventLoop):
            return None
        current = asyncio.current_task(self._loop)
        for attempt in self._attempts.snapshot():
            if attempt.task is current and current is not None:
                return attempt
        return None

    def _stack(self) -> str:
        frame: FrameType | None = _frames_of_all_threads().get(self._loop_thread)
        return _shown(traceback.extract_stack(frame)) if frame else ""


def _shown(stack: traceback.StackSummary) -> str:
    """What the loop executes, from the task on, where it is one."""
    calls = [number for number, entry in enumerate(stack) if entry.filename == CALL_OF_A_TASK]
    begin = max(calls[-1] + 1 if calls else 0, len(stack) - STACK_DEPTH)
    return "".join(traceback.format_list(stack[begin:]))
