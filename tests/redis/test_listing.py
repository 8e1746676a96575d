"""Listings, counts and purges: nothing is left out, and large bodies are left where they are."""

from typing import Any

import pytest
from servers.hands import Hand
from servers.redis import RedisServer

from aioq.plugins import Filter, Settlement
from aioq_redis._store import Store

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BODY = 20_000


async def test_all_that_retry_are_found(hand: Hand) -> None:
    jobs = await hand.add(9)
    retries = [Settlement(job.token, "retry", delay_ms=3_600_000) for job in await hand.claim()]
    assert set(await hand.broker.settle(retries)) == {"accepted"}
    where = Filter(status=frozenset({"retrying"}))
    page = await hand.broker.find(where, 10)
    assert [info.id for info in page.jobs] == sorted((job.id for job in jobs), reverse=True)
    assert await hand.broker.count_where(where) == 9
    assert await hand.broker.delete_where(where, 100) == 9


async def test_one_id_on_two_queues_is_two_jobs(hand: Hand) -> None:
    """On Redis an id is unique per queue: each has its job, in listings and when one is purged."""
    other = Hand(hand.broker, "other")
    (job,) = await hand.add(1)
    await other.add(1, id=job.id)
    for queue in ("q", "other"):
        page = await hand.broker.find(Filter(queue=queue), 10)
        assert [info.queue for info in page.jobs] == [queue]
    first = await hand.broker.find(Filter(), 1)
    second = await hand.broker.find(Filter(), 1, first.cursor)
    assert [info.queue for info in (*first.jobs, *second.jobs)] == ["q", "other"]
    assert second.cursor is None
    assert await hand.broker.count_where(Filter()) == 2
    assert await hand.broker.delete_where(Filter(queue="other"), 10) == 1
    assert await hand.statuses([job]) == {"pending": 1}


@pytest.mark.parametrize("task", [None, "t"])
async def test_large_bodies_hold_nothing_up(
    server: RedisServer, hand: Hand, monkeypatch: pytest.MonkeyPatch, task: str | None
) -> None:
    """Redis does nothing else while it reads a slice, so none reads much; and only what is shown
    is sent."""
    jobs = await hand.add(400, body=b"x" * BODY)
    slices: list[int] = []
    run = Store.run

    async def watched(self: Store, script: Any, *args: Any) -> Any:
        reply = await run(self, script, *args)
        if script.name == "scan":
            slices.append(reply[2])
        return reply

    monkeypatch.setattr(Store, "run", watched)
    where = Filter(queue="q", task=task)
    with server.client() as client:

        def sent() -> int:
            return client.info("stats")["total_net_output_bytes"]

        before = sent()
        assert await hand.broker.count_where(where) == 400
        assert len((await hand.broker.find(where, 10)).jobs) == 10
        assert set(await hand.broker.cancel([job.id for job in jobs[:100]])) == {"cancelled"}
        assert all(await hand.broker.delete([job.id for job in jobs[:50]]))
        assert await hand.broker.delete_where(where, 1000) == 350
        assert sent() - before < 50 * BODY, "bodies were sent that nobody sees"
    assert sum(slices) >= 2 * 400 * BODY or task is None
    assert max(slices) < 200 * BODY, "one slice read half of the queue"
