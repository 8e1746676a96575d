"""Many workers keep up at once: none of them waits for another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from postgres.shifted import FakeTimeBroker, make_empty
from servers.hands import Hand

from aioq.plugins import Delivery
from aioq.testing import FakeClock
from aioq_postgres import PostgresBroker
from aioq_postgres._sql import UPKEEP_LOCK

pytestmark = pytest.mark.anyio

Sql = "asyncpg.Connection[asyncpg.Record]"
LONG_MS = 600_000
"""A lease that outlasts any stall of the machine."""


@pytest.fixture
async def still(dsn: str, schema: str) -> AsyncIterator[FakeTimeBroker]:
    """A broker whose time stands still until a test moves it."""
    broker = FakeTimeBroker(dsn, schema=schema, timeout=30.0)
    broker.clock = FakeClock()
    await make_empty(broker, dsn)
    async with broker:
        yield broker


async def claim(broker: PostgresBroker, count: int, lease_ms: int) -> list[Delivery]:
    hand = Hand(broker)
    await hand.add(count)
    claimed = await broker.claim(["q"], count, worker=hand.worker, lease_ms=lease_ms)
    return list(claimed.jobs)


async def waits_for_a_lock(sql: Sql, schema: str) -> None:
    """Return when a call of a broker on this schema does."""
    async with asyncio.timeout(30):
        while not await sql.fetchval(  # noqa: ASYNC110 - no event comes from there
            "select count(*) from pg_stat_activity where application_name = 'aioq' "
            "and wait_event_type = 'Lock' and query like '%' || $1 || '%'",
            schema,
        ):
            await asyncio.sleep(0.01)


async def test_an_upkeep_that_is_held_up_holds_up_nobody(
    open_broker: Callable[..., Any], dsn: str, sql: Sql, schema: str
) -> None:
    broker: PostgresBroker = await open_broker(dsn)
    other: PostgresBroker = await open_broker(dsn)
    dying, running = await claim(broker, 2, LONG_MS)
    await sql.execute(
        f'update "{schema}".job set cancel_asked = true, lease_until = 0 where id = $1', dying.id
    )
    # Its record cannot be written while somebody else may write one of the same id.
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(
        f'insert into "{schema}".job_done (id, queue, task, status, run_at, priority, delivery, '
        "retries, crashes, ended, created_at, finished_at, policy) "
        "values ($1, 'q', 't', 12, 0, 0, 1, 0, 0, 1, 0, 0, '')",
        dying.id,
    )
    held_up = asyncio.ensure_future(other.upkeep(["q"], lease_ms=LONG_MS))
    await waits_for_a_lock(sql, schema)
    for _ in range(2):
        assert not (await broker.renew([running.token], LONG_MS)).lost
        await broker.upkeep(["q"], lease_ms=LONG_MS)
    assert not held_up.done()
    await transaction.rollback()
    assert (await held_up).rescued == 1


async def test_one_of_all_rescues_and_the_others_do_the_rest(
    broker: PostgresBroker, sql: Sql, schema: str
) -> None:
    await claim(broker, 1, LONG_MS)
    await Hand(broker).add(1, delay_ms=1)
    await sql.execute(f'update "{schema}".job set lease_until = 0 where state = 4')
    async with sql.transaction():
        await sql.execute("select pg_advisory_xact_lock($1, hashtext($2))", UPKEEP_LOCK, schema)
        await sql.execute("select pg_sleep(0.01)")
        done = await broker.upkeep(["q"], lease_ms=LONG_MS)
    assert (done.promoted, done.rescued) == (1, 0)
    assert (await broker.upkeep(["q"], lease_ms=LONG_MS)).rescued == 1


async def test_the_stamp_is_written_once_a_second(
    still: FakeTimeBroker, sql: Sql, schema: str
) -> None:
    async def writer() -> int:
        """The transaction that wrote it last."""
        return int(await sql.fetchval(f'select xmin::text from "{schema}".stamp'))

    await still.upkeep(["q"], lease_ms=LONG_MS)
    first = await writer()
    still.clock.advance(1_000)
    await still.upkeep(["q"], lease_ms=LONG_MS)
    await still.renew([], LONG_MS)
    assert await writer() == first
    still.clock.advance(1)
    await still.renew([], LONG_MS)
    assert await writer() > first


async def test_the_shortest_lease_is_rescued_as_soon_as_it_ends(still: FakeTimeBroker) -> None:
    """Keeping up five times a lease, as workers do, is no gap after which the dead get time."""
    await claim(still, 1, 1_000)
    rescued: list[int] = []
    for _ in range(6):
        rescued.append((await still.upkeep(["q"], lease_ms=1_000)).rescued)
        still.clock.advance(201)
    assert rescued == [0, 0, 0, 0, 0, 1]
