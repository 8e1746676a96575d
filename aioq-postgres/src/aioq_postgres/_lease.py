"""Renewing from the lease thread: a connection and an event loop of its own."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from aioq.errors import BrokerUnavailable
from aioq.plugins import LeaseClient, Renewed, Token
from aioq_postgres._connect import Server
from aioq_postgres._errors import hoping_for_rights
from aioq_postgres._pool import Pool
from aioq_postgres._sql import Texts
from aioq_postgres._upkeep import renew

__all__ = ["PostgresLeaseClient"]

LONGEST_RENEWAL: Final = 8.0


class PostgresLeaseClient(LeaseClient):
    """asyncpg belongs to one event loop; so the thread gets a small one, run for each renewal.

    Args:
        server: where to connect.
        texts: SQL of the broker.
    """

    def __init__(self, server: Server, texts: Texts) -> None:
        self._server = server
        self._texts = texts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Pool | None = None

    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        """As ``BaseBroker.renew``, within a third of the lease."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        within = min(lease_ms / 3000, LONGEST_RENEWAL)
        return self._loop.run_until_complete(self._renew(tokens, lease_ms, within))

    async def _renew(self, tokens: Sequence[Token], lease_ms: int, within: float) -> Renewed:
        if self._pool is None:
            self._pool = Pool(self._server, 1)
        operation = partial(renew, texts=self._texts, tokens=tokens, lease_ms=lease_ms)
        try:
            async with asyncio.timeout(within):
                with hoping_for_rights():
                    return await self._pool.call(operation, within * 0.9)
        except TimeoutError:
            raise BrokerUnavailable(
                f"{self._server.where} did not renew the leases within {within:g} s"
            ) from None

    def close(self) -> None:
        """Drop the connection and the loop."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        with contextlib.closing(loop):
            if self._pool is not None:
                self._pool.terminate()
                self._pool = None
            loop.run_until_complete(asyncio.sleep(0))
