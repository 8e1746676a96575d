"""What users read when something is wrong: each class of the tree, by a mistake that raises it.

A message says what was wrong, where (the task, the option, the job, the store), and what to do.
"""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from aioq import Aarq, Context, Job, TaskDef, WorkerOptions, errors
from aioq.errors import AioqError, BatchRejected
from aioq.plugins import BaseBroker, BrokerSpec
from aioq.plugins._registry import Registry
from aioq.testing import FakeClock, offline

ABSENT = "01a20a55-6c38-7508-9ea0-120e8f8127fe"


class Case:
    """What a mistake needs: an app, its tasks, and a store that can be told to refuse."""

    def __init__(self, app: Aarq, broker: Any, hand: Any, patch: pytest.MonkeyPatch) -> None:
        self.app, self.broker, self.hand, self.patch = app, broker, hand, patch

        @app.task(name="shop.add", save_result=True)
        async def add(ctx: Context, a: int, b: int) -> int:
            return a + b

        @app.task(name="shop.note")
        async def note(ctx: Context, what: object = None) -> None: ...

        self.add: TaskDef[[int, int], int] = add
        self.note: TaskDef[..., None] = note

    async def sent(self) -> Job[int]:
        return await self.add.enqueue(2, 3)

    def refuse(self, *with_: Exception) -> None:
        self.broker.broken.extend(with_)


CASES: dict[str, tuple[str, Callable[[Case], Awaitable[object]]]] = {}


def says(
    kind: type[AioqError], message: str
) -> Callable[[Callable[[Case], Awaitable[object]]], None]:
    """The mistake below raises exactly this class, with this message (`*` is any text)."""

    def enter(mistake: Callable[[Case], Awaitable[object]]) -> None:
        CASES[kind.__name__] = (message, mistake)

    return enter


@says(errors.AioqError, "*was never sent: pass it to app.enqueue_many([...]) first")
async def aioq_error(case: Case) -> object:
    return await case.add.job(2, 3).wait()


@says(
    errors.ConfigurationError,
    "no installed broker serves 'kafka://h'; installed schemes: *memory://*",
)
async def configuration_error(case: Case) -> object:
    return Aarq("kafka://h")


@says(errors.InvalidOption, "unknown option 'retires'; did you mean 'retries'?")
async def invalid_option(case: Case) -> object:
    options: dict[str, Any] = {"retires": 3}
    return case.add.options(**options)


@says(errors.UnknownTask, "the app has no task 'shop.ad'; did you mean 'shop.add'?")
async def unknown_task(case: Case) -> object:
    return case.app.get_task("shop.ad")


@says(
    errors.NoBroker,
    "no broker: pass one to Aarq(...), set AIOQ_BROKER_URL, or 'pip install aioq-sqlite' for *",
)
async def no_broker(case: Case) -> object:
    case.patch.delenv("AIOQ_BROKER_URL", raising=False)
    case.patch.setattr("aioq._brokers.registry", lambda external=True: Registry(external=False))
    return Aarq().broker


@says(errors.PluginError, "KafkaBroker cannot be imported: No module named 'kafka_driver'")
async def plugin_error(case: Case) -> object:
    def load() -> Any:
        raise ImportError("No module named 'kafka_driver'")

    spec = BrokerSpec(name="KafkaBroker", schemes=("kafka",), load=load)
    return Registry(external=False).load_broker(spec)


@says(
    errors.InvalidArguments,
    "shop.add: missing a required argument: 'b'; it takes (a: int, b: int) -> int",
)
async def invalid_arguments(case: Case) -> object:
    add: Any = case.add
    return await add.enqueue(1)


@says(errors.SerializationError, "shop.note: argument 'what' *object*")
async def serialization_error(case: Case) -> object:
    return await case.note.enqueue(object())


@says(
    errors.PayloadTooLarge,
    "the arguments of job * of task 'shop.note' take *,* bytes, the limit is 1,048,576: store *",
)
async def payload_too_large(case: Case) -> object:
    return await case.note.enqueue("x" * 2_000_000)


@says(errors.EnqueueError, "the store refused it: no room for NUL")
async def enqueue_error(case: Case) -> object:
    case.refuse(BatchRejected("no room for NUL"))
    return await case.sent()


@says(errors.JobExists, f"*{ABSENT}*")
async def job_exists(case: Case) -> object:
    for _ in range(2):
        job = await case.note.options(job_id=ABSENT).enqueue()
    return job


@says(errors.EnqueueManyError, "1 of 2 jobs were not enqueued (1 were); the first reason: *")
async def enqueue_many_error(case: Case) -> object:
    await case.note.options(job_id=ABSENT).enqueue()
    again = case.note.options(job_id=ABSENT).job()
    return await case.app.enqueue_many([again, case.note.job()])


@says(errors.NotSupported, "Wire cannot cancel jobs")
async def not_supported(case: Case) -> object:
    return await BaseBroker.cancel(case.broker, [ABSENT])


@says(
    errors.JobNotFound,
    f"no job {ABSENT} is known to the store",
)
async def job_not_found(case: Case) -> object:
    return await case.broker.cancel_job(ABSENT)


@says(errors.JobFailed, "job * of task 'shop.add' ended failed: ValueError: boom")
async def job_failed(case: Case) -> object:
    job = await case.sent()
    await case.hand.fail("ValueError: boom")
    return await job.wait()


@says(errors.JobCancelled, "job * of task 'shop.add' was cancelled")
async def job_cancelled(case: Case) -> object:
    job = await case.sent()
    await job.cancel()
    return await job.wait()


@says(
    errors.ResultNotSaved,
    "job * of task 'shop.note' does not save its result: set save_result=True on the task, *",
)
async def result_not_saved(case: Case) -> object:
    job = await case.note.enqueue()
    return await job.wait()


@says(errors.TaskTimeout, "ran longer than its timeout of 0.01 s")
async def task_timeout(case: Case) -> object:
    @case.app.task(timeout=0.01)
    async def slow(ctx: Context) -> None:
        await anyio.sleep_forever()

    with offline(case.app) as jobs:
        await slow.enqueue()
        with pytest.raises(errors.JobFailed) as failed:
            await jobs.run()
    raise failed.value.__cause__ or AssertionError


BY_STORES = {
    "BatchRejected": "postgres/test_mistakes.py",
    "BrokerError": "redis/test_server_faults.py",
    "BrokerUnavailable": "redis/test_server_faults.py",
}
"""Raised by stores that are servers: where a test reaches them."""
BASES = {"JobError"}


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_mistake_is_told(
    name: str, app: Aarq, broker: Any, hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, mistake = CASES[name]
    with pytest.raises(AioqError) as told:
        await mistake(Case(app, broker, hand, monkeypatch))
    assert type(told.value) is getattr(errors, name)
    pattern = ".*".join(map(re.escape, message.split("*")))
    assert re.fullmatch(pattern, str(told.value)), str(told.value)


def test_every_error_is_reached() -> None:
    tree = {name for name in errors.__all__ if issubclass(getattr(errors, name), AioqError)}
    assert CASES.keys() | BY_STORES.keys() | BASES == tree
    for name, file in BY_STORES.items():
        assert name in (Path(__file__).parents[1] / file).read_text("utf-8")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda: WorkerOptions(queues=()),
            "queues must name at least one queue; leave it out to serve all",
        ),
        (
            lambda: WorkerOptions(**cast("Any", {"on_lease_lost": "ignore"})),
            "on_lease_lost must be 'cancel' or 'continue', got 'ignore'",
        ),
        (
            lambda: WorkerOptions(**cast("Any", {"queues": "mail"})),
            "queues must be a tuple of names, got 'mail'",
        ),
        (lambda: FakeClock().advance(-1), "a clock only moves forward, got -1 ms"),
    ],
)
def test_other_mistakes(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as told:
        mistake()
    assert str(told.value) == message
