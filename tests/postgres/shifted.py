"""Brokers on a real server whose clock a test moves."""

import asyncpg

from aioq.testing import FakeClock
from aioq_postgres import PostgresBroker
from aioq_postgres._sql import NOW

__all__ = ["FakeTimeBroker", "ShiftedBroker", "make_empty", "move_clock"]


class ShiftedBroker(PostgresBroker):
    """Adds ``aioq.test_clock`` to the server's time."""

    clock_sql = f"({NOW} + (select ms from aioq.test_clock))"


class FakeTimeBroker(PostgresBroker):
    """Reads ``aioq.test_clock`` alone, and sets it by a fake clock before each call.

    So no stall of the machine shows in what the store computes.
    """

    clock_sql = "(select ms from aioq.test_clock)"
    clock: FakeClock
    _set_to = -1

    async def _within(self, seconds, operation, *args, **kwargs):  # type: ignore[no-untyped-def]
        await self._follow()
        return await super()._within(seconds, operation, *args, **kwargs)

    async def claim(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        await self._follow()
        return await super().claim(*args, **kwargs)

    async def settle(self, settlements):  # type: ignore[no-untyped-def]
        await self._follow()
        return await super().settle(settlements)

    async def _follow(self) -> None:
        now = self.clock()
        if now != self._set_to:
            self._set_to = now

            async def move(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
                await move_clock(connection, self._texts.schema, now)

            await self._local().pool.call(move, 30)


async def make_empty(broker: PostgresBroker, dsn: str) -> None:
    """Tables as after a migration, with a clock; made where they are missing.

    Emptying them is much quicker than making them anew.
    """
    await broker.migrate()
    schema = broker._texts.quoted
    connection = await asyncpg.connect(dsn)
    tables = await connection.fetch(
        "select tablename from pg_tables where schemaname = $1 and tablename <> 'migration'",
        broker._texts.schema,
    )
    await connection.execute(
        f"create table if not exists {schema}.test_clock (ms bigint not null);"
        + "".join(f"delete from {schema}.{row[0]};" for row in tables)
        + f"insert into {schema}.test_clock values (0);"
        f"insert into {schema}.stamp (last, rescue_after) values (null, 0)"
    )
    await connection.close()


async def move_clock(
    connection: "asyncpg.Connection[asyncpg.Record]", schema: str, ms: int
) -> None:
    """Set what stands in the clock."""
    await connection.execute(f'update "{schema}".test_clock set ms = $1', ms)
