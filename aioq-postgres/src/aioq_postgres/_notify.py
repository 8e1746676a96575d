"""Bells: telling idle workers of news, and hearing it. Every bell may be lost; polls find the rest.

PostgreSQL lets only one transaction with a NOTIFY commit at a time, in the whole cluster. So a bell
is rung by a statement of its own, after the commit, with at most one on the wire per process; what
gathers meanwhile goes with the next.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from aioq.errors import AioqError
from aioq.plugins import Token

__all__ = ["News", "Ringer", "channel_of", "payload_of_work", "read_news"]

LONGEST_PAYLOAD: Final = 7_900
"""Bytes; PostgreSQL takes less than 8,000."""
_EVERYTHING: Final = "{}"


class News(NamedTuple):
    """What a bell says.

    ``queues`` is None when there may be work in any queue.
    """

    queues: tuple[str, ...] | None = ()
    cancelled: tuple[Token, ...] = ()


def channel_of(schema: str) -> str:
    """The channel of all that share a schema."""
    return f"aioq_{hashlib.sha256(schema.encode()).hexdigest()[:32]}"


def payload_of_work(queues: Iterable[str]) -> str:
    """There is work in these queues."""
    return _fitting({"work": sorted(set(queues))})


def _payloads_of_cancels(tokens: Sequence[Token]) -> list[str]:
    return [
        json.dumps({"cancel": [token.hex() for token in tokens[start : start + 80]]})
        for start in range(0, len(tokens), 80)
    ]


def _fitting(news: dict[str, list[str]]) -> str:
    payload = json.dumps(news)
    return payload if len(payload) <= LONGEST_PAYLOAD else _EVERYTHING


def read_news(payload: str) -> News:
    """What a bell says; one that cannot be read says that there may be work."""
    try:
        found: dict[str, Any] = json.loads(payload)
        cancelled = tuple(bytes.fromhex(token) for token in found.get("cancel", ()))
        work = found.get("work")
        if work is None:
            return News((), cancelled) if cancelled else News(None)
        return News(tuple(str(queue) for queue in work), cancelled)
    except (ValueError, TypeError, AttributeError):
        return News(None)


class Ringer:
    """Rings for one event loop.

    Args:
        send: sends payloads in one call; it may fail.
    """

    def __init__(self, send: Callable[[list[str]], Awaitable[object]]) -> None:
        self._send = send
        self._work: set[str] = set()
        self._cancels: list[Token] = []
        self._task: asyncio.Task[None] | None = None

    def work(self, queues: Iterable[str]) -> None:
        """There is work in these queues."""
        self._work.update(queues)
        if self._work:
            self._start()

    def cancel(self, tokens: Iterable[Token]) -> None:
        """These deliveries should stop."""
        self._cancels.extend(tokens)
        if self._cancels:
            self._start()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while self._work or self._cancels:
                payloads = _payloads_of_cancels(self._cancels)
                if self._work:
                    payloads.append(payload_of_work(self._work))
                self._work.clear()
                self._cancels.clear()
                await self._send(payloads)
        except AioqError:
            # A lost bell costs its hearers one poll; the next news rings again.
            self._work.clear()
            self._cancels.clear()
        finally:
            self._task = None

    async def drain(self, patience: float) -> None:
        """Wait for what is on the wire."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)
