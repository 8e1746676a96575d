"""An app's broker in each event loop that uses it: opened on first use, closed with the loop."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from aioq import _background, _loop
from aioq._broker import check_loop
from aioq._current import current_worker
from aioq._records import CancelAnswer, JobInfo
from aioq._runtime import Client, Runtime

__all__ = ["Connections"]

_inherited: list[object] = []


class _Use:
    """One event loop's use of the broker."""

    __slots__ = ("blocks", "client", "keeper", "kept", "lock", "workers")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lock = anyio.Lock()
        self.keeper: AsyncGenerator[None, None] | None = None
        """While the broker is open: the one who closes it."""
        self.blocks = 0
        """``async with app``, so many times."""
        self.workers = 0
        self.kept = False
        """Used outside of blocks and workers: open until ``close``, or until the loop ends."""


class Connections:
    """The broker of one assembled app, wherever it is used; as a ``JobStore`` it opens itself.

    A child of a fork begins anew: it shares no connection with its parent.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._broker = runtime.broker
        self._uses: dict[_loop.Loop, _Use] = {}
        self._pid = os.getpid()

    def _use(self) -> _Use:
        if self._pid != os.getpid():
            # closing them, or letting them go, would disturb the parent
            _inherited.append(self._uses)
            self._uses, self._pid = {}, os.getpid()
        loop = _loop.current_loop()
        use = self._uses.get(loop)
        if use is None:
            for other in [other for other in list(self._uses) if _loop.has_ended(other)]:
                self._uses.pop(other, None)
            use = self._uses[loop] = _Use(Client(self._runtime, self))
        return use

    async def client(self) -> Client:
        """This loop's client, its broker open.

        Raises:
            BrokerUnavailable: the store is out of reach.
            ConfigurationError: it cannot be used as it is; the message says what to do.
        """
        use = self._use()
        outside = not use.kept and not use.blocks and current_worker() is None
        if use.keeper is None:
            await self._open(use)
        if outside:
            use.kept = True
        return use.client

    async def _open(self, use: _Use) -> None:
        async with use.lock:
            if use.keeper is None:
                check_loop(self._broker)
                # what it starts outlives this caller, and must inherit nothing of theirs
                await _background.within(self._runtime.background.copy(), self._broker.open())
                keeper = self._keep(use)
                await anext(keeper)
                use.keeper = keeper

    async def _keep(self, use: _Use) -> AsyncGenerator[None, None]:
        """Closes the broker when it is closed itself, which event loops do at their end with every
        generator that was not exhausted."""
        loop = _loop.current_loop()
        try:
            yield
        finally:
            use.keeper = None
            with anyio.CancelScope(shield=True):
                if not use.lock.locked():  # not ``_close``: the loop ends
                    self._uses.pop(loop, None)
                    await use.client.close()
                await self._broker.close()

    async def enter(self) -> None:
        """A block begins; the broker is open until the last block and worker have ended."""
        use = self._use()
        use.blocks += 1
        try:
            await self._open(use)
        except BaseException:
            use.blocks -= 1
            raise

    async def leave(self) -> None:
        """A block has ended."""
        use = self._use()
        use.blocks -= 1
        await self._close_if_unused(use)

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None, None]:
        """A worker's whole life."""
        use = self._use()
        use.workers += 1
        try:
            await self._open(use)
            yield
        finally:
            use.workers -= 1
            await self._close_if_unused(use)

    async def _close_if_unused(self, use: _Use) -> None:
        if not (use.blocks > 0 or use.workers or use.kept):
            await self._close(use)

    async def close(self) -> None:
        """Close what this loop has open."""
        await self._close(self._use())

    async def _close(self, use: _Use) -> None:
        with anyio.CancelScope(shield=True):
            async with use.lock:
                use.kept = False  # who comes while it closes opens it again, and keeps it
                if use.keeper is not None:
                    use.client.hang_up()
                    use.client = Client(self._runtime, self)
                    await use.keeper.aclose()

    def opened_in(self, loop: _loop.Loop) -> bool:
        """Whether the broker is open in another loop."""
        use = self._uses.get(loop)
        return use is not None and use.keeper is not None

    # -- for job handles (``aioq._job.JobStore``), in whichever loop they are used ----------------

    @property
    def url(self) -> str:
        """As the broker's."""
        return self._broker.url

    async def find_info(self, job_id: str) -> JobInfo | None:
        """As the broker's."""
        await self.client()
        return await self._broker.find_info(job_id)

    async def wait_finished(self, job_id: str) -> JobInfo | None:
        """As the broker's."""
        await self.client()
        waiting = self._broker.wait_finished(job_id)
        return await _background.within(self._runtime.background.copy(), waiting)

    async def ask_cancel(self, job_id: str) -> CancelAnswer:
        """As the broker's."""
        await self.client()
        return await self._broker.ask_cancel(job_id)
