"""A memory broker that can be made to fail, a readable log, and a worker beside the test."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import copy_context
from typing import Any

import anyio
import pytest

from aioq import Aarq, Job, Worker, _background
from aioq.backends import MemoryBroker
from aioq.plugins import (
    Added,
    Claimed,
    Hint,
    LeaseClient,
    NewJob,
    Renewed,
    Settled,
    Settlement,
    Token,
    Upkeep,
    WorkerInfo,
)
from aioq.worker import WorkerOptions

OTHER = "00000000-0000-4000-8000-00000000000f"
"""The id of a worker that the test plays itself."""

PATIENCE = 30.0
"""Seconds that anything may take on a machine that is busy with other things."""

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""In a module for both loops: only this one has what the test is about."""


class Log:
    """What the worker and the logging middleware said; safe to write from any thread."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def _write(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append({"level": level, "event": event, **fields})

    def __getattr__(self, level: str) -> Callable[..., None]:
        if level not in ("debug", "info", "warning", "error"):
            raise AttributeError(level)
        return lambda event, **fields: self._write(level, event, **fields)

    def bind(self, **_: Any) -> "Log":
        return self

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line["event"] == event]


class FaultyBroker(MemoryBroker):
    """``faults[name]`` is raised by every call of that name; ``gates[name]`` holds it back.

    Its leases last ``lease_factor`` times as long as the worker is told, so that no stall of a busy
    machine takes a job away: ``take_away`` does. Tests of the leases themselves give a clock.
    """

    def __init__(self, *, lease_factor: int = 100, **options: Any) -> None:
        super().__init__(**options)
        self.lease_factor = lease_factor
        self.faults: dict[str, BaseException] = {}
        self.gates: dict[str, anyio.Event] = {}
        self.calls: Counter[str] = Counter()
        self.settled: list[Sequence[Settlement]] = []
        self.claimed_from: list[tuple[str, ...]] = []
        self.quarantined_asked: list[bool] = []
        self.after_claim: anyio.Event | None = None
        """Holds back the reply of ``claim``, not the claim."""

    def check(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.faults:
            raise self.faults[name]

    async def _pass(self, name: str) -> None:
        self.check(name)
        if name in self.gates:
            await self.gates[name].wait()
            if name in self.faults:
                raise self.faults[name]

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        await self._pass("enqueue")
        return await super().enqueue(jobs, producer=producer, numbers=numbers)

    async def claim(self, queues: Sequence[str], limit: int, **options: Any) -> Claimed:
        self.claimed_from.append(tuple(queues))
        self.quarantined_asked.append(options.get("quarantined", True))
        await self._pass("claim")
        options["lease_ms"] *= self.lease_factor
        claimed = await super().claim(queues, limit, **options)
        if self.after_claim is not None:
            await self.after_claim.wait()
        return claimed

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        await self._pass("settle")
        self.settled.append(settlements)
        return await super().settle(settlements)

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        await self._pass("upkeep")
        lease_ms *= self.lease_factor
        return await super().upkeep(queues, lease_ms=lease_ms, budget=budget)

    async def beat(self, worker: WorkerInfo) -> None:
        await self._pass("beat")
        await super().beat(worker)

    async def forget(self, worker_id: str) -> None:
        await self._pass("forget")
        await super().forget(worker_id)

    async def hints(self, worker: WorkerInfo, free: Callable[[], int]) -> AsyncIterator[Hint]:
        await self._pass("hints")
        async with aclosing(super().hints(worker, free)) as hints:  # type: ignore[type-var]
            async for hint in hints:
                self.check("hint")
                yield hint

    def for_lease_thread(self) -> LeaseClient:
        self.check("for_lease_thread")
        return _LeaseClient(self, super().for_lease_thread())

    def break_all(self, error: BaseException) -> None:
        for name in ("claim", "settle", "upkeep", "beat", "hints", "hint", "renew", "forget"):
            self.faults[name] = error

    async def claim_as(self, worker: str, limit: int = 1) -> Claimed:
        """A claim that passes by the faults, as of another worker."""
        return await super().claim(["default"], limit, worker=worker, lease_ms=86_400_000)

    def take_away(self, job_id: str) -> None:
        """End the lease of a running job, as a long silence of its worker would."""
        row = self._store._rows[job_id]
        row.lease_until = 0
        self._store._no_rescue_before = 0
        self._store.upkeep(lease_ms=86_400_000, budget=500)


class _LeaseClient(LeaseClient):
    def __init__(self, broker: FaultyBroker, real: LeaseClient) -> None:
        self._broker = broker
        self._real = real

    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        self._broker.check("renew")
        return self._real.renew(tokens, lease_ms * self._broker.lease_factor)

    def close(self) -> None:
        self._real.close()


@asynccontextmanager
async def working(app: Aarq, *, signals: bool = False, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs beside the test and is stopped at its end."""
    worker = Worker(app, WorkerOptions(**{"shutdown_timeout": 0.3, **options}))
    running = _background.spawn(worker.run(signals=signals), copy_context())
    try:
        yield worker
    finally:
        worker.stop()
        with anyio.fail_after(PATIENCE):
            await _background.join(running)


async def drain(app: Aarq, **options: Any) -> None:
    """Run a worker until nothing is due."""
    with anyio.fail_after(PATIENCE):
        await Worker(app, WorkerOptions(burst=True, **options)).run()


async def until(condition: Callable[[], object], *, within: float = PATIENCE) -> None:
    """Wait until ``condition()`` is true."""
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - it announces itself by no event
            await anyio.sleep(0.005)


async def ended(job: Job[Any], within: float = PATIENCE) -> Job[Any]:
    return await job.finished(timeout=within)
