"""An app on a memory broker with a clock that stands still, and a worker's part done by hand."""

from typing import Any

import pytest

from aioq import Aarq, Job, TaskDef
from aioq._records import Added, Delivery, SettleKind, Settlement
from aioq._wire import Note, encode_note
from aioq.backends import MemoryBroker
from aioq.testing import FakeClock

WORKER = "00000000-0000-4000-8000-000000000001"


class Hand:
    """Claims and settles as a worker would, one job at a time."""

    worker = WORKER

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    async def claim(self, queue: str = "default") -> Delivery:
        claimed = await self.broker.claim([queue], 1, worker=WORKER, lease_ms=30_000)
        (delivery,) = claimed.jobs
        return delivery

    async def settle(self, delivery: Delivery, kind: SettleKind, **more: Any) -> None:
        (answer,) = await self.broker.settle([Settlement(delivery.token, kind, **more)])
        assert answer == "accepted"

    async def complete(self, task: TaskDef[..., Any], result: Any = None) -> None:
        """Claim the next job of the task's queue and complete it with this result."""
        delivery = await self.claim(task.queue)
        codec = task._home.codec
        data = task.signature.pack_result(result, codec) if task.task_options.save_result else None
        await self.settle(delivery, "completed", result=data, content_type=codec.content_type)

    async def fail(self, error: str | None, kind: SettleKind = "failed", queue: str = "default"):
        """Claim the next job and end it with this error."""
        note = encode_note(Note(error, "Traceback ...", final=error is not None))
        await self.settle(await self.claim(queue), kind, note=note)


class Wire(MemoryBroker):
    """A memory broker that keeps what was asked of it, and can be told to break."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[tuple[list[str], bytes, dict[str, int]]] = []
        self.broken: list[BaseException] = []
        self.lose_reply: list[BaseException] = []
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1

    async def enqueue(self, jobs, *, producer, numbers) -> list[Added]:
        self.calls.append(([job.id for job in jobs], producer, dict(numbers)))
        if self.broken:
            raise self.broken.pop(0)
        answers = await super().enqueue(jobs, producer=producer, numbers=numbers)
        if self.lose_reply:
            raise self.lose_reply.pop(0)
        return list(answers)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def broker(clock: FakeClock) -> Wire:
    return Wire(clock=clock)


@pytest.fixture
def app(broker: Wire) -> Aarq:
    return Aarq(broker, plugins=False)


@pytest.fixture
def hand(broker: Wire) -> Hand:
    return Hand(broker)


@pytest.fixture
def travel(app: Aarq):
    """Takes a call of a task over the wire and gives back what the worker's function would get."""

    def go(task: TaskDef[..., Any], *args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
        job: Job[Any] = task.job(*args, **kwargs)
        body = job._read_body()
        assert body is not None
        return task.signature.unpack(body, app.codec)

    return go
