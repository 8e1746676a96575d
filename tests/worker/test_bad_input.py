"""Whatever lies in the queue or comes out of a task: the worker lives, and the others complete."""

import os
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, SecretStr, field_validator
from worker.harness import OTHER, FaultyBroker, Log, drain, ended, until, working

from aioq import Aarq, Context
from aioq._wire import MAJOR, Body, Note, Policy, decode_note, encode_body, encode_note
from aioq._wire import encode_policy as pack
from aioq.errors import SerializationError
from aioq.plugins import NewJob, Serializer
from aioq.testing import FakeClock

pytestmark = pytest.mark.both_loops

Ctx = Context[Any]

ARGUMENTS = encode_body("application/json", b"[[],{}]", {})
GARBAGE = [
    b"",
    b"garbage",
    b"AQ",
    b"AQ\x00rest",
    b"AQ\x01",
    b"AQ\x01\x93\xc0\xc0\xc0",
    b"AQ\x01" + b"\x91" * 100_000,
    b'{"job": "of another library"}',
]


async def put(broker: FaultyBroker, **parts: Any) -> str:
    """Store a job as no client of ours would."""
    fields: dict[str, Any] = {
        "id": str(uuid4()),
        "queue": "default",
        "task": "good",
        "policy": pack(Policy()),
        "body": ARGUMENTS,
    }
    job = NewJob(**{**fields, **parts})
    await broker.enqueue([job], producer=os.urandom(8), numbers={job.queue: 1})
    return job.id


@pytest.fixture
def runs(app: Aarq) -> list[str]:
    """Ids of the jobs of task ``good`` that ran."""
    runs: list[str] = []

    @app.task(name="good")
    async def good(ctx: Ctx) -> None:
        runs.append(ctx.job_id)

    return runs


async def status_of(broker: FaultyBroker, job_id: str) -> tuple[str, str | None]:
    (info,) = await broker.get([job_id])
    assert info is not None
    return info.status, decode_note(info.note).error


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_body_that_is_garbage_is_dead(
    app: Aarq, broker: FaultyBroker, runs: list[str], log: Log, body: bytes
) -> None:
    bad = await put(broker, body=body)
    good = await put(broker)
    await drain(app)
    status, error = await status_of(broker, bad)
    assert status == "dead"
    assert "body" in (error or "")
    assert runs == [good]
    assert [line["job_id"] for line in log.of("job.dead")] == [bad]


async def test_a_policy_that_is_garbage_is_dead(
    app: Aarq, broker: FaultyBroker, runs: list[str]
) -> None:
    bad = [await put(broker, policy=policy) for policy in (b"", b"\xff", b"\x91\xa1x", b"\xc0")]
    good = await put(broker)
    await drain(app)
    for job_id in bad:
        status, error = await status_of(broker, job_id)
        assert (status, "policy" in (error or "")) == ("dead", True)
    assert runs == [good]


async def test_arguments_that_are_garbage_fail(
    app: Aarq, broker: FaultyBroker, runs: list[str]
) -> None:
    bad = [
        await put(broker, body=encode_body("application/json", arguments, {}))
        for arguments in (b"", b"{", b"[]", b"[[],[]]", b"[{},{}]", b"[" * 100_000)
    ]
    bad.append(await put(broker, body=encode_body("application/x-unheard-of", b"", {})))
    good = await put(broker)
    await drain(app)
    for job_id in bad:
        status, error = await status_of(broker, job_id)
        assert (status, bool(error)) == ("failed", True)
    assert runs == [good]


@pytest.mark.parametrize("kind", ["newer envelope", "unknown task"])
async def test_what_only_a_newer_worker_can_run_is_handed_back_then_dead(
    app: Aarq,
    broker: FaultyBroker,
    runs: list[str],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker._store, "_now", FakeClock(broker._now()))  # it stands still
    newer = b"AQ" + bytes([MAJOR + 1]) + b"who knows"
    bad = await put(broker, **{"body": newer} if kind == "newer envelope" else {"task": "later"})
    good = await put(broker)
    await drain(app)
    assert runs == [good]
    (info,) = await broker.get([bad])
    assert info is not None
    assert (info.status, info.retries, info.crashes) == ("scheduled", 0, 0)
    assert info.run_at_ms - (info.started_ms or 0) == 5_000
    note = decode_note(info.note)
    assert note.unknown_since == info.started_ms
    # time passes, and none comes
    row = broker._store._rows[bad]
    row.note = encode_note(Note(unknown_since=(note.unknown_since or 0) - 700_000))
    broker._store._leave(row)
    row.due_at(row.enqueued_ms)
    broker._store._wait(row, broker._now())
    await drain(app)
    status, error = await status_of(broker, bad)
    assert status == "dead"
    assert "700 s" in (error or "")
    if kind == "unknown task":
        assert "'later'" in (error or "")
        assert "import its module next to the app" in (error or "")
        assert "Aarq(namespace='...')" in (error or "")
    else:
        assert "upgrade the worker" in (error or "")


async def test_a_job_of_an_unknown_task_runs_when_its_task_comes(
    app: Aarq, broker: FaultyBroker
) -> None:
    job_id = await put(broker, task="later")
    await drain(app)
    newer = Aarq(broker, plugins=False)
    ran: list[str] = []

    @newer.task(name="later")
    async def later(ctx: Ctx) -> None:
        ran.append(ctx.job_id)

    row = broker._store._rows[job_id]
    broker._store._leave(row)
    row.due_at(row.enqueued_ms)
    broker._store._wait(row, broker._now())
    await drain(newer)
    assert ran == [job_id]


async def test_arguments_of_an_older_signature_fail(
    app: Aarq, broker: FaultyBroker, runs: list[str]
) -> None:
    @app.task(name="changed")
    async def changed(ctx: Ctx, must: int) -> None:
        pytest.fail("ran")

    bad = [
        await put(broker, task="changed"),
        await put(broker, task="changed", body=encode_body("application/json", b'[["x"],{}]', {})),
        await put(
            broker, task="changed", body=encode_body("application/json", b'[[],{"old":1}]', {})
        ),
    ]
    good = await put(broker)
    await drain(app)
    for job_id in bad:
        status, error = await status_of(broker, job_id)
        assert status == "failed"
        assert (error or "").startswith("InvalidArguments: changed: ")
    assert runs == [good]


@dataclass
class Explosive:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise KeyError("an error no converter expects")


async def test_an_argument_whose_own_code_breaks_fails(
    app: Aarq, broker: FaultyBroker, runs: list[str]
) -> None:
    @app.task(name="breaks")
    async def breaks(ctx: Ctx, value: Explosive) -> None:
        pytest.fail("ran")

    body = encode_body("application/json", b'[[{"n":-1}],{}]', {})
    bad = await put(broker, task="breaks", body=body)
    good = await put(broker)
    async with working(app):
        await until(lambda: good in runs)
        await until(lambda: broker._store._rows[bad].place == "done")
    assert (await status_of(broker, bad))[0] == "failed"


class Invoice(BaseModel):
    number: int
    secret: SecretStr | None = None

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        if number < 0:
            raise KeyError("an error pydantic lets through")
        return number


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (b'[[{"number":"hush"}],{}]', "number: Input should be a valid integer, unable to parse "),
        (b'[[{}],{"others":[{"number":1},{"secret":2}]}]', "number: Field required"),
        (
            b'[[{"number":1}],{"others":[{"secret":[]}]}]',
            "'others' does not fit its annotation: 0.",
        ),
        (b'[[{"number":-1}],{}]', "KeyError: 'an error pydantic lets through'"),
        (b"[[5],{}]", "Input should be an object"),
    ],
)
async def test_models_that_do_not_fit_any_more_fail_and_show_no_values(
    app: Aarq, broker: FaultyBroker, runs: list[str], log: Log, arguments: bytes, error: str
) -> None:
    @app.task(name="bill", retries=3)
    async def bill(ctx: Ctx, invoice: Invoice, others: list[Invoice] = []) -> None:  # noqa: B006
        pytest.fail("ran")

    bad = await put(broker, task="bill", body=encode_body("application/json", arguments, {}))
    good = await put(broker)
    async with working(app):
        await until(lambda: good in runs)
        await until(lambda: broker._store._rows[bad].place == "done")
    status, said = await status_of(broker, bad)
    assert status == "failed"
    assert error in (said or "")
    assert "hush" not in str(log.lines)


async def test_a_model_that_changed_since_is_read_by_its_defaults(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    @app.task(name="bill", save_result=True)
    async def bill(ctx: Ctx, invoice: Invoice) -> Invoice:
        return invoice

    older = encode_body("application/json", b'[[{"number":7,"gone":true}],{}]', {})
    job_id = await put(broker, task="bill", body=older, policy=pack(Policy(save_result=True)))
    await drain(app)
    job = await bill.get_job(job_id)
    assert job is not None
    assert job.result == Invoice(number=7)


class Sly:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


async def test_a_result_that_cannot_be_saved_fails_the_job_at_once(
    app: Aarq, broker: FaultyBroker, runs: list[str]
) -> None:
    @app.task(save_result=True, retries=5, retry_delay=0)
    async def unserialisable(ctx: Ctx):
        return object()

    @app.task(save_result=True, retries=5, retry_delay=0)
    async def changed(ctx: Ctx) -> Any:
        return float("nan")

    @app.task(save_result=True, retries=5, retry_delay=0)
    async def surrogate(ctx: Ctx) -> str:
        return "\ud800"

    @app.task(save_result=True, retries=5, retry_delay=0)
    async def large(ctx: Ctx) -> str:
        return "x" * 2_000_000

    @app.task(save_result=True, retries=5, retry_delay=0)
    async def badly_annotated(ctx: Ctx) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        return 1

    jobs = [
        await task.enqueue()
        for task in (unserialisable, changed, surrogate, large, badly_annotated)
    ]
    good = await put(broker)
    async with working(app):
        await until(lambda: good in runs)
        for job in jobs:
            await ended(job)
            assert (job.status, job.retries) == ("failed", 0)
            assert job.task_name in (job.error or "") or "Nowhere" in (job.error or "")
    assert "2,000,002 bytes" in (jobs[3].error or "")


async def test_a_serializer_with_a_bug_fails_the_job(broker: FaultyBroker, log: Log) -> None:
    class Buggy(Serializer):
        content_type = "application/x-buggy"
        sane = True

        def dumps(self, value: Any) -> bytes:
            if not self.sane:
                raise LookupError("a bug")
            return b"[[], {}]"

        def loads(self, data: bytes) -> Any:
            if not self.sane:
                raise LookupError("a bug")
            return [[], {}]

    serializer = Buggy()
    app = Aarq(broker, serializer=serializer, plugins=False)

    @app.task(name="first")
    async def first(ctx: Ctx) -> None: ...

    @app.task(name="second", save_result=True)
    async def second(ctx: Ctx) -> None:
        serializer.sane = False

    one, two = await first.enqueue(), await second.enqueue()
    async with working(app, concurrency=1):
        assert (await ended(one)).status == "completed"
        assert (await ended(two)).status == "failed"
        three = await put(broker, task="first", body=encode_body(serializer.content_type, b"", {}))
        await until(lambda: broker._store._rows[three].place == "done")
    assert await status_of(broker, three) == ("failed", "LookupError: 'a bug'") or (
        await status_of(broker, three)
    ) == ("failed", "LookupError: a bug")


@pytest.mark.parametrize("note", [b"", b"\xff\xff", b"\x91\x01", b"\x81\xa5error\x01"])
async def test_a_note_that_cannot_be_decoded_costs_only_itself(
    app: Aarq, broker: FaultyBroker, runs: list[str], note: bytes
) -> None:
    job_id = await put(broker)
    broker._store._rows[job_id].note = note
    await drain(app)
    assert runs == [job_id]
    assert (await status_of(broker, job_id))[0] == "completed"


async def test_headers_survive_and_a_body_reader_sees_them() -> None:
    packed = encode_body("application/json", b"[[],{}]", {"trace": "x"})
    assert packed[:2] == b"AQ"
    assert Body("application/json", b"[[],{}]", {"trace": "x"}).headers == {"trace": "x"}
    with pytest.raises(SerializationError):
        encode_body("application/json", b"", {"trace": "\ud800"})


async def test_an_outcome_the_store_cannot_hold_fails_its_job_alone(
    app: Aarq, broker: FaultyBroker, log: Log
) -> None:
    from aioq import Middleware
    from aioq.errors import BatchRejected
    from aioq.middleware import RunningJob

    told: dict[str, str] = {}

    class Observer(Middleware):
        async def settled(self, job: RunningJob, outcome: object) -> None:
            told[job.id] = type(outcome).__name__

    app.use(Observer())
    real = broker.settle

    async def picky(settlements: Any) -> Any:
        if any(item.result == b'"poison"' for item in settlements):
            raise BatchRejected("no poison here")
        return await real(settlements)

    broker.settle = picky  # type: ignore[method-assign]

    @app.task(save_result=True)
    async def echo(ctx: Ctx, text: str) -> str:
        return text

    jobs = await app.enqueue_many([echo.job("poison" if i == 5 else "ok") for i in range(20)])
    await drain(app)
    assert [(await job.refresh()).status for job in jobs] == [
        "failed" if i == 5 else "completed" for i in range(20)
    ]
    assert "no poison here" in (jobs[5].error or "")
    assert told[jobs[5].id] == "Failed"
    assert len(log.of("job.failed")) == 1


assert OTHER
