"""A broker in the hands of a test: a producer and a worker in one."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from aioq.errors import BrokerUnavailable
from aioq.plugins import Added, BaseBroker, Delivery, NewJob, Settled, Settlement

__all__ = ["LEASE_MS", "Hand", "eventually"]

LEASE_MS = 2_000


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another process or thread brings about."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event comes from there
            await asyncio.sleep(0.005)


class Hand:
    """Enqueues and works as the core does: what was not answered is sent again, unchanged."""

    def __init__(self, broker: BaseBroker, queue: str = "q") -> None:
        self.broker = broker
        self.queue = queue
        self.worker = str(uuid4())
        self.ran: Counter[str] = Counter()
        self.failures = 0
        self._producer = os.urandom(8)
        self._number = 0

    def make(self, count: int = 1, **fields: Any) -> list[NewJob]:
        plain = {"queue": self.queue, "task": "t", "policy": b"p", "body": b"b"}
        return [NewJob(**{"id": str(uuid4()), **plain, **fields}) for _ in range(count)]

    async def send(self, jobs: Sequence[NewJob]) -> Sequence[Added]:
        """One numbered batch."""
        self._number += 1
        return await self.broker.enqueue(
            jobs, producer=self._producer, numbers={self.queue: self._number}
        )

    async def add(self, count: int = 1, **fields: Any) -> list[NewJob]:
        """Store new jobs, however often that has to be tried."""
        jobs = self.make(count, **fields)
        self._number += 1
        numbers = {self.queue: self._number}
        answers = await self.insist(
            lambda: self.broker.enqueue(jobs, producer=self._producer, numbers=numbers)
        )
        assert {answer.status for answer in answers} <= {"new", "already"}
        return jobs

    async def claim(self, limit: int = 100) -> Sequence[Delivery]:
        claimed = await self.broker.claim(
            [self.queue], limit, worker=self.worker, lease_ms=LEASE_MS
        )
        return claimed.jobs

    async def settle(self, *deliveries: Delivery, kind: Any = "completed") -> Sequence[Settled]:
        return await self.broker.settle([Settlement(item.token, kind) for item in deliveries])

    async def insist(self, call: Callable[[], Any]) -> Any:
        """Try again while the store cannot be reached, which no fault here makes last long."""
        async with asyncio.timeout(120):
            while True:
                try:
                    return await call()
                except BrokerUnavailable:
                    self.failures += 1
                    await asyncio.sleep(0.05)

    async def work(self, until: Callable[[], bool]) -> None:
        """Claim, run and settle until ``until`` says so and nothing is left, also no lost claim."""
        while True:
            jobs = await self.insist(self.claim)
            if not jobs:
                await self.insist(lambda: self.broker.upkeep([self.queue], lease_ms=LEASE_MS))
                (left,) = await self.insist(lambda: self.broker.counts([self.queue]))
                if until() and not left.pending + left.scheduled + left.running:
                    return
                await asyncio.sleep(0.02)
                continue
            self.ran.update(job.id for job in jobs)
            await self.insist(lambda jobs=jobs: self.settle(*jobs))

    async def statuses(self, jobs: Sequence[NewJob]) -> Counter[str]:
        found: Counter[str] = Counter()
        for start in range(0, len(jobs), 500):
            batch = [job.id for job in jobs[start : start + 500]]
            for info in await self.broker.get(batch):
                found[info.status if info is not None else "absent"] += 1
        return found
