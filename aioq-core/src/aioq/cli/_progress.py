"""The progress of ``aioq worker --burst`` on a terminal."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from aioq import _background
from aioq._app import Aarq
from aioq._clock import monotonic
from aioq._outcome import Cancelled, Dead, Failed, Outcome, Succeeded
from aioq.cli._output import count_of, note
from aioq.cli._screen import Foot
from aioq.errors import AioqError
from aioq.middleware import Middleware, Order, RunningJob
from aioq.plugins import BaseBroker

__all__ = ["Progress"]

DRAW_EVERY = 0.2
COUNT_EVERY = 5
"""Drawings from one look into the store to the next."""
BAR = 20
ENDS: dict[type[Outcome], str] = {
    Succeeded: "completed",
    Failed: "failed",
    Cancelled: "cancelled",
    Dead: "dead",
}
"""Outcomes after which a job does not run again."""


class Progress(Middleware):
    """Counts what this worker has finished, asks the store what is left, and draws both; at the end
    it says what has become of the jobs.

    Args:
        line: where to draw.
        queues: those that the worker serves.
    """

    order = Order.TRACE

    def __init__(self, line: Foot, queues: Sequence[str]) -> None:
        self._line = line
        self._queues = queues
        self._ended: Counter[str] = Counter()
        self._total: int | None = None
        self._began = monotonic()

    async def settled(self, job: RunningJob, outcome: Outcome) -> None:
        if end := ENDS.get(type(outcome)):
            self._ended[end] += 1

    def lifespan(self, app: Aarq) -> AbstractAsyncContextManager[None]:
        return self._drawing(app.broker)

    @asynccontextmanager
    async def _drawing(self, broker: BaseBroker) -> AsyncGenerator[None, None]:
        drawing = _background.start(self._draw(broker), "aioq.progress")
        try:
            yield
        finally:
            drawing.cancel()
            self._line.show("")
            note(summary(self._ended, monotonic() - self._began))

    async def _draw(self, broker: BaseBroker) -> None:
        while True:
            await self._count(broker)
            for _ in range(COUNT_EVERY):
                self._line.show(self._text())
                await anyio.sleep(DRAW_EVERY)

    async def _count(self, broker: BaseBroker) -> None:
        ended = self._ended.total()  # of those that end meanwhile the answer may hold some
        try:
            stats = await broker.counts(self._queues)
        except AioqError:
            return  # the worker itself tells of it; the last figure stays
        self._total = ended + sum(queue.pending + queue.running for queue in stats)

    def _text(self) -> str:
        if self._total is None:
            return ""
        return bar(self._ended.total(), self._total, monotonic() - self._began)


def bar(done: int, total: int, seconds: float) -> str:
    """``[#####...............]  25%  1,000 of 4,000 jobs, 50/s, 60 s left``."""
    total = max(done, total)
    share = done / total if total else 1.0
    filled = "#" * int(BAR * share)
    rate = done / seconds if seconds > 0 else 0.0
    text = f"[{filled:.<{BAR}}] {share:4.0%}  {done:,} of {total:,} jobs, {rate:,.0f}/s"
    return text if not rate else f"{text}, {(total - done) / rate:,.0f} s left"


def summary(ended: Counter[str], seconds: float) -> str:
    """``4,000 jobs in 80.1 s: 3,999 completed, 1 failed``."""
    jobs = f"{count_of(ended.total(), 'job')} in {seconds:,.1f} s"
    ways = ", ".join(f"{ended[way]:,} {way}" for way in ENDS.values() if ended[way])
    return f"{jobs}: {ways}" if ways else jobs
