"""Claims begin where the last one ended only while looking from the start is slow."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from servers.hands import Hand
from servers.postgres import PostgresServer

from aioq_postgres._marks import Marks
from aioq_postgres._sql import LOWEST

pytestmark = pytest.mark.anyio


def test_a_quick_claim_sets_no_mark() -> None:
    marks = Marks()
    assert not marks.learn({"q": 7}, 100, 100, 0.001)
    assert marks.lows(["q"]) == [LOWEST]


def test_a_small_claim_sets_no_mark() -> None:
    marks = Marks()
    assert not marks.learn({"q": 7}, 1, 1, 10.0)
    assert marks.lows(["q"]) == [LOWEST]


def test_a_slow_claim_sets_marks_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    marks = Marks()
    assert not marks.learn({"q": 7}, 100, 100, 1.0)
    assert marks.lows(["q", "r"]) == [7, LOWEST]
    assert not marks.learn({"q": 9}, 100, 100, 0.001)
    assert marks.lows(["q"]) == [9]
    now = 1.1
    assert marks.lows(["q"]) == [LOWEST], "after a second the start is looked at again"


def test_a_claim_that_ran_dry_behind_a_mark_says_so() -> None:
    marks = Marks()
    marks.learn({"q": 7}, 100, 100, 1.0)
    assert marks.learn({"q": 9}, 3, 100, 0.001), "there may be jobs before the mark"
    assert marks.lows(["q"]) == [LOWEST]


async def test_what_stands_before_a_mark_is_found(
    open_broker: Callable[..., Any], frail: PostgresServer
) -> None:
    hand = Hand(await open_broker(frail.dsn()))
    await hand.add(100)
    await hand.add(20, priority=5)
    marks = hand.broker._local().marks
    marks.learn({"q": 2**50}, 100, 100, 1.0)
    marks._until = math.inf  # no stall of the machine outlasts it
    first = await hand.broker.claim(["q"], 100, worker=hand.worker, lease_ms=2000)
    assert (list(first.jobs), first.more) == ([], True)
    assert len(await hand.claim(100)) == 100
