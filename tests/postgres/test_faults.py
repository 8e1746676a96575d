"""Servers that restart, networks that cut and forget: nothing is lost, and work goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from servers.hands import LEASE_MS, Hand
from servers.postgres import PostgresServer
from servers.proxy import Proxy

from aioq.errors import BrokerError, BrokerUnavailable
from aioq.plugins import Renewed, Token, WorkerInfo
from aioq_postgres import PostgresBroker
from aioq_postgres._hints import Ear
from aioq_postgres._notify import channel_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Sql = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def hand(open_broker: Callable[..., Any], frail: PostgresServer) -> Hand:
    """A broker on the server for faults."""
    return Hand(await open_broker(frail.dsn()))


@pytest.fixture
async def hasty(open_broker: Callable[..., Any], hand: Hand, frail: PostgresServer) -> Hand:
    """One that waits a second for an answer, which on a busy machine may be too short."""
    return Hand(await open_broker(frail.dsn(), timeout=1.0))


@pytest.fixture
def far(proxy: Proxy, frail: PostgresServer) -> str:
    """The way through the proxy."""
    return frail.dsn().replace(f":{frail.port}/", f":{proxy.port}/")


@pytest.fixture
async def far_hand(open_broker: Callable[..., Any], hand: Hand, far: str) -> Hand:
    """A broker whose connections go through the proxy; as hasty."""
    return Hand(await open_broker(far, timeout=1.0))


def sitting(hand: Hand, queue: str = "q") -> WorkerInfo:
    return WorkerInfo(hand.worker, "host", 1, (queue,), 1, "0")


async def under_load(hand: Hand, disturb: Callable[[], Awaitable[object]], times: int) -> list[Any]:
    """Produce and work while something disturbs, so many times; what was accepted.

    The disturbance comes by what has been accepted, not by the clock: a slow machine must be able
    to connect anew and go on in between.
    """
    accepted: list[Any] = []
    progress = asyncio.Event()
    broken_enough = asyncio.Event()
    produced = asyncio.Event()  # later: the last jobs may be on their way then

    async def produce() -> None:
        while not broken_enough.is_set():
            accepted.extend(await hand.add(5))
            progress.set()
        produced.set()

    async def break_things() -> None:
        for _ in range(times):
            enough = len(accepted) + 25
            while len(accepted) < enough:
                progress.clear()
                await progress.wait()
            await disturb()
        broken_enough.set()

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(break_things())
        group.create_task(hand.work(produced.is_set))
    return accepted


async def is_complete(hand: Hand, accepted: list[Any]) -> None:
    # The first call may find that its connection was among the victims.
    statuses = await hand.insist(lambda: hand.statuses(accepted))
    assert statuses == {"completed": len(accepted)}
    (stats,) = await hand.broker.counts(["q"])
    assert stats.completed == len(accepted), "a job was doubled"


async def test_connections_cut_under_load(hand: Hand, far_hand: Hand, proxy: Proxy) -> None:
    accepted = await under_load(far_hand, lambda: asyncio.to_thread(proxy.cut), 20)
    assert far_hand.failures > 0, "no connection was cut under load"
    await is_complete(hand, accepted)


async def test_backends_terminated_under_load(hand: Hand, frail: PostgresServer) -> None:
    admin = await asyncpg.connect(frail.dsn())

    async def terminate() -> None:
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'aioq' and pid <> pg_backend_pid()"
        )

    accepted = await under_load(hand, terminate, 20)
    await admin.close()
    assert hand.failures > 0
    await is_complete(hand, accepted)


async def test_immediate_restarts_under_load(hand: Hand, frail: PostgresServer) -> None:
    accepted = await under_load(hand, lambda: asyncio.to_thread(frail.restart), 3)
    assert hand.failures > 0
    await is_complete(hand, accepted)


async def test_kill_9_of_the_server(hand: Hand, frail: PostgresServer) -> None:
    jobs = await hand.add(50)
    held = await hand.claim(20)

    def kill() -> None:
        frail.kill()
        frail.start()

    await asyncio.to_thread(kill)
    answers = await hand.insist(lambda: hand.settle(*held))
    assert set(answers) == {"accepted"}, "the completion of a forgotten claim counts"
    await hand.work(lambda: True)
    await is_complete(hand, jobs)


async def test_half_open_connections_are_replaced(hand: Hand, far_hand: Hand, proxy: Proxy) -> None:
    await far_hand.add(5)
    (held,) = await far_hand.insist(lambda: far_hand.claim(1))
    client = far_hand.broker.for_lease_thread()

    async def renew(token: Token) -> Renewed:
        return await asyncio.to_thread(client.renew, [token], 90_000)

    assert not (await far_hand.insist(lambda: renew(held.token))).lost
    await asyncio.to_thread(proxy.forget)
    (first,) = await far_hand.insist(lambda: far_hand.claim(1))
    assert first.id != held.id
    with pytest.raises(BrokerUnavailable):
        await asyncio.to_thread(client.renew, [held.token], 3000)
    assert not (await far_hand.insist(lambda: renew(first.token))).lost
    await asyncio.to_thread(client.close)


async def test_a_frozen_server_answers_with_a_sentence(
    hand: Hand, hasty: Hand, frail: PostgresServer
) -> None:
    (job,) = hand.make(1)
    frail.freeze()
    try:
        for _ in range(2):
            async with asyncio.timeout(30):
                with pytest.raises(BrokerUnavailable, match=r"no answer|cannot be reached"):
                    await hasty.broker.enqueue([job], producer=b"producer", numbers={"q": 1})
    finally:
        frail.resume()
    (answer,) = await hand.insist(
        lambda: hand.broker.enqueue([job], producer=b"producer", numbers={"q": 1})
    )
    assert answer.status in ("new", "already")
    assert (await hand.broker.counts(["q"]))[0].pending == 1


async def test_hints_go_on_after_a_restart(hand: Hand, frail: PostgresServer) -> None:
    hints = hand.broker.hints(sitting(hand), lambda: 1)
    await anext(hints)
    await asyncio.to_thread(frail.restart)
    await anext(hints)
    with anyio.fail_after(30):
        while (await anext(hints)).queue != "q":
            await hand.add(1)
    await hints.aclose()


async def test_whoever_listens_again_rests_no_longer_each_time(
    hand: Hand, frail: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    sleep = asyncio.sleep

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    monkeypatch.setattr("asyncio.sleep", rest)
    ear = Ear(frozenset("q"))
    listening = asyncio.ensure_future(ear.run(hand.broker._server, "a_channel"))
    admin = await asyncpg.connect(frail.dsn())
    async with asyncio.timeout(60):
        for _ in range(6):
            await ear.heard.wait()
            ear.heard.clear()
            await admin.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'aioq' and query ilike 'listen%a_channel%'"
            )
    listening.cancel()
    await admin.close()
    assert len(rests) >= 5
    assert max(rests) <= 0.1


async def test_a_wait_survives_nothing_but_says_so(
    open_broker: Callable[..., Any], hand: Hand, far: str, proxy: Proxy
) -> None:
    far_hand = Hand(await open_broker(far))
    (job,) = await far_hand.add(1)
    waits = [asyncio.ensure_future(far_hand.broker.wait_finished(job.id)) for _ in "12"]
    await asyncio.to_thread(proxy.refuse)
    first, second = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(first, BrokerUnavailable)
    assert isinstance(second, BrokerUnavailable)
    assert first is not second, "each has notes and a traceback of its own"
    await asyncio.to_thread(proxy.accept)
    waiting = asyncio.ensure_future(far_hand.broker.wait_finished(job.id))
    await hand.work(lambda: True)
    info = await waiting
    assert info is not None
    assert info.status == "completed"


async def test_an_old_snapshot_held_open_stops_nothing(hand: Hand, frail: PostgresServer) -> None:
    """What a report or a backup does; the length of its life is shortened here."""
    report = await asyncpg.connect(frail.dsn())
    transaction = report.transaction(isolation="repeatable_read")
    await transaction.start()
    await report.fetch(f'select count(*) from "{hand.broker._texts.schema}".job')
    for _ in range(10):
        await hand.add(500)
    await hand.work(lambda: True)
    assert (await hand.broker.counts(["q"]))[0].completed == 5_000
    await transaction.rollback()
    await report.close()


async def test_prepared_statements_dropped_in_between(hand: Hand, frail: PostgresServer) -> None:
    jobs = await hand.add(3)
    await hand.broker._local().pool.call(lambda con: con.execute("deallocate all"), 30)
    await hand.work(lambda: True)
    await is_complete(hand, jobs)


async def test_without_prepared_statements(
    open_broker: Callable[..., Any], frail: PostgresServer
) -> None:
    hand = Hand(await open_broker(frail.dsn(), statement_cache_size=0))
    jobs = await hand.add(250)
    await hand.work(lambda: True)
    await is_complete(hand, jobs)
    # Without a direct way nobody listens; upkeep finds the work.
    hints = hand.broker.hints(sitting(hand), lambda: 1)
    hint = asyncio.ensure_future(anext(hints))
    await hand.add(1)
    await asyncio.sleep(0)
    await hand.broker.upkeep(["q"], lease_ms=LEASE_MS)
    with anyio.fail_after(30):
        found = await hint
        while found.queue != "q":  # on a slow machine the poll comes first
            found = await anext(hints)
    await hints.aclose()


async def test_the_work_pool_leaves_no_trace_on_its_connections(
    open_broker: Callable[..., Any], frail: PostgresServer
) -> None:
    """A pooler may hand each of them to somebody else after each transaction."""
    hand = Hand(await open_broker(frail.dsn(), max_connections=1))
    jobs = hand.make(3, check_exists=True)
    await hand.send(jobs)
    await hand.work(lambda: True)
    await hand.broker.upkeep(["q"], lease_ms=LEASE_MS)

    async def look(connection: Any) -> list[Any]:
        return [
            await connection.fetchval("show synchronous_commit"),
            await connection.fetchval(
                "select setting = reset_val from pg_settings where name = 'jit'"
            ),
            await connection.fetchval("show idle_in_transaction_session_timeout"),
            await connection.fetchval("select count(*) from pg_listening_channels()"),
            await connection.fetchval(
                "select count(*) from pg_locks where locktype = 'advisory' "
                "and pid = pg_backend_pid()"
            ),
        ]

    assert await hand.broker._local().pool.call(look, 30) == ["on", True, "0", 0, 0]


async def test_a_call_is_one_transaction_of_a_pooler(
    open_broker: Callable[..., Any], frail: PostgresServer
) -> None:
    """A pooler lets go of the server when it says that it is ready: once in each call."""
    ready = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", frail.port)

        async def up() -> None:
            while data := await reader.read(65536):
                back.write(data)
            back.close()

        async def down() -> None:
            nonlocal ready
            while data := await there.read(65536):
                ready += data.count(b"Z\0\0\0\5I")
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down())

    pooler = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = pooler.sockets[0].getsockname()[1]
    dsn = frail.dsn().replace(f":{frail.port}/", f":{port}/")
    broker = await open_broker(
        dsn, direct_dsn=frail.dsn(), statement_cache_size=0, max_connections=1
    )
    hand = Hand(broker)
    # Also the first call of each kind: asyncpg asks for no types in between.
    for call in (
        lambda: hand.send(hand.make(2, delay_ms=60_000)),
        lambda: hand.send(hand.make(2, delay_ms=60_000, check_exists=True)),
        hand.claim,
        lambda: broker.renew([], LEASE_MS),
        lambda: broker.upkeep(["q"], lease_ms=LEASE_MS),
        lambda: broker.counts(["q"]),
    ):
        ready = 0
        await call()
        assert ready == 1
    await broker.close()
    pooler.close()


async def test_closing_lets_calls_come_to_their_end(
    open_broker: Callable[..., Any],
    broker: PostgresBroker,
    sql: Sql,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioq_postgres._local.FAREWELL", 60.0)
    hand = Hand(broker)
    heard = Hand(await open_broker(broker._server.dsn))
    hints = heard.broker.hints(sitting(heard), lambda: 1)
    await anext(hints)
    async with asyncio.timeout(30):
        while not await sql.fetchval(  # noqa: ASYNC110 - no event comes from there
            "select count(*) from pg_stat_activity where query ilike 'listen%' and query like $1",
            f"%{channel_of(schema)}%",
        ):
            await asyncio.sleep(0.01)
    jobs = hand.make(1)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute(f'lock table "{schema}".job in share mode')
    sending = asyncio.ensure_future(hand.send(jobs))
    async with asyncio.timeout(30):
        while not await sql.fetchval(  # noqa: ASYNC110 - no event comes from there
            "select count(*) from pg_locks where not granted and relation = $1::regclass",
            f'"{schema}".job',
        ):
            await asyncio.sleep(0)
    closing = asyncio.ensure_future(broker.close())
    await asyncio.sleep(0)
    await transaction.rollback()
    assert (await sending)[0].status == "new"
    await closing
    async with asyncio.timeout(30):
        while (await anext(hints)).queue != "q":
            continue
    await hints.aclose()


async def test_a_closed_broker_says_so(open_broker: Callable[..., Any], dsn: str) -> None:
    broker: PostgresBroker = await open_broker(dsn)
    await broker.close()
    await broker.close()
    with pytest.raises(BrokerError, match="not open"):
        await broker.get([str(uuid4())])
    await broker.open()
    assert await broker.get([str(uuid4())]) == [None]
