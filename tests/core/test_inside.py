"""Jobs stored in a transaction of the caller's."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aioq import Aarq, Context
from aioq.backends import MemoryBroker
from aioq.errors import (
    ConfigurationError,
    EnqueueManyError,
    InvalidOption,
    JobExists,
    NotSupported,
    PayloadTooLarge,
)
from aioq.middleware import Middleware
from aioq.plugins import Added, NewJob

pytestmark = pytest.mark.anyio


class Transaction:
    """A connection of the caller's, and what was stored on it."""

    def __init__(self) -> None:
        self.stored: list[NewJob] = []

    def store(self, jobs: Sequence[NewJob]) -> list[Added]:
        taken = {job.id for job in self.stored}
        self.stored += jobs
        return [Added("exists" if job.id in taken else "new", 7) for job in jobs]


class TransactionalBroker(MemoryBroker):
    """Never opened: nothing here needs that."""

    async def open(self) -> None:
        raise AssertionError("opened")

    async def enqueue_inside(self, connection: Any, jobs: Sequence[NewJob]) -> Sequence[Added]:
        await asyncio.sleep(0)
        return self.enqueue_inside_sync(connection, jobs)

    def enqueue_inside_sync(self, connection: Any, jobs: Sequence[NewJob]) -> Sequence[Added]:
        stored: list[Added] = connection.store(jobs)
        return stored


class Stamp(Middleware):
    async def around_enqueue(self, jobs: Any, call_next: Any) -> None:
        for job in jobs:
            job.headers["stamp"] = "yes"
        await call_next(jobs)


def make_app(broker: MemoryBroker | None = None, *layers: Middleware) -> Any:
    app = Aarq(broker or TransactionalBroker(), plugins=False)
    for layer in layers:
        app.use(layer)

    @app.task(name="mail")
    async def mail(ctx: Context, to: str) -> None: ...

    return app


async def test_an_enqueue_on_a_connection_goes_there_alone() -> None:
    mail, transaction = make_app(None, Stamp()).tasks["mail"], Transaction()
    job = await mail.options(connection=transaction, delay=5, priority=2).enqueue("ann")
    (stored,) = transaction.stored
    assert (stored.id, stored.delay_ms, stored.priority) == (job.id, 5000, 2)
    assert job.enqueued_at is not None
    assert job.headers == {"stamp": "yes"}
    assert job.connection is None, "the handle holds on to a connection"


async def test_many_on_a_connection() -> None:
    app, transaction = make_app(), Transaction()
    mail = app.tasks["mail"]
    jobs = await app.enqueue_many([mail.job("ann"), mail.job("bob")], connection=transaction)
    assert [job.id for job in transaction.stored] == [job.id for job in jobs]
    with pytest.raises(EnqueueManyError):
        await app.enqueue_many([jobs[0], mail.job("cy")], connection=transaction)
    assert len(transaction.stored) == 4


@pytest.mark.parametrize("own", [None, Transaction()], ids=["no own", "own"])
async def test_a_connection_that_fails_is_not_kept_by_the_jobs(own: Transaction | None) -> None:
    class Lost(Transaction):
        def store(self, jobs: Sequence[NewJob]) -> list[Added]:
            raise ConnectionError("the server closed the connection")

    app, other = make_app(), Transaction()
    mail = app.tasks["mail"]
    job = (mail.options(connection=own) if own else mail).job("ann")
    with pytest.raises(ConnectionError):
        await app.enqueue_many([job], connection=Lost())
    assert job.connection is own
    await app.enqueue_many([job], connection=other)
    assert [stored.id for stored in other.stored] == [job.id]


async def test_the_jobs_of_one_call_share_their_connection() -> None:
    app, transaction = make_app(), Transaction()
    mail = app.tasks["mail"]
    inside = mail.options(connection=transaction)
    for other in (mail, mail.options(connection=Transaction())):
        with pytest.raises(InvalidOption, match="the same connection"):
            await app.enqueue_many([inside.job("ann"), other.job("bob")])
    assert transaction.stored == []


def test_without_an_event_loop() -> None:
    mail, transaction = make_app(None, Stamp()).tasks["mail"], Transaction()
    given = mail.options(connection=transaction, job_id="01234567-89ab-7def-8123-456789abcdef")
    assert given.enqueue_sync("ann").headers == {"stamp": "yes"}
    with pytest.raises(JobExists):
        given.enqueue_sync("ann")


async def test_sync_beside_an_event_loop() -> None:
    """As inside ``AsyncSession.run_sync``."""
    mail, transaction = make_app().tasks["mail"], Transaction()
    mail.options(connection=transaction).enqueue_sync("ann")
    assert len(transaction.stored) == 1


async def test_sync_cannot_wait_for_a_middleware() -> None:
    class Slow(Middleware):
        async def around_enqueue(self, jobs: Any, call_next: Any) -> None:
            await asyncio.sleep(0)
            await call_next(jobs)

    mail, transaction = make_app(None, Slow()).tasks["mail"], Transaction()
    with pytest.raises(ConfigurationError, match="a middleware waits"):
        mail.options(connection=transaction).enqueue_sync("ann")
    assert transaction.stored == []


async def test_a_job_that_is_too_large_stores_none() -> None:
    app, transaction = make_app(TransactionalBroker(max_payload=100)), Transaction()
    mail = app.tasks["mail"]
    with pytest.raises(PayloadTooLarge):
        await app.enqueue_many([mail.job("ann"), mail.job("x" * 200)], connection=transaction)
    assert transaction.stored == []


async def test_other_brokers_refuse() -> None:
    mail = make_app(MemoryBroker()).tasks["mail"].options(connection=object())
    with pytest.raises(NotSupported, match="MemoryBroker cannot enqueue in a transaction of yours"):
        await mail.enqueue("ann")
    with pytest.raises(NotSupported, match="such as PostgresBroker"):
        mail.enqueue_sync("ann")
