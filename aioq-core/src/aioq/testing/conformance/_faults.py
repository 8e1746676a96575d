"""Calls that are cut off: nothing is lost, nothing is half done, and the broker goes on."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import anyio.lowlevel

from aioq._records import Filter, NewJob
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers
from aioq.testing.conformance._tools import Kit, new_worker, worker_info

__all__ = ["FaultCases"]


class FaultCases(BaseSuite):
    """Promises about cancelled calls."""

    async def _cut(self, call: Callable[[], Awaitable[object]], steps: int) -> None:
        """Cancel a call after so many turns of the event loop; it may have ended before."""
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await call()

            group.start_soon(run)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    async def _balance(self, kit: Kit, sent: Sequence[NewJob]) -> None:
        """Check the ledger; what a cut-off call had sent to a server may arrive while it is read,
        so that it need not be right at the first look."""
        deadline = anyio.current_time() + self.patience
        while True:
            infos = await kit.broker.get([job.id for job in sent])
            stored = [info for info in infos if info is not None]
            try:
                half = len(stored) not in (0, len(sent))
                assert not half, "case 73: half of a cancelled batch was stored"
                kit.ledger.jobs.update((info.id, info.queue) for info in stored)
                await kit.check_ledger()
            except AssertionError:
                if anyio.current_time() >= deadline:
                    raise
                await anyio.sleep(0.01)
            else:
                return

    @covers(73)
    async def test_a_cancelled_call_loses_nothing(self, kit: Kit) -> None:
        broker = kit.broker
        offers = broker.capabilities
        for steps in range(12):
            jobs = await kit.enqueue(4)
            held = await kit.take()
            claimed = await kit.take()
            sent = kit.make(2)
            calls: list[Callable[[], Awaitable[object]]] = [
                partial(broker.claim, ["q"], 1, worker=new_worker(), lease_ms=self.lease_ms),
                partial(kit.add, sent),
                partial(broker.renew, [held.token], self.lease_ms),
                partial(kit.settle, held, "retry"),
                partial(kit.settle, claimed),
                kit.upkeep,
                partial(broker.get, [job.id for job in jobs]),
                broker.counts,
                partial(broker.wait_finished, jobs[0].id),
            ]
            if offers.cancel:
                calls.append(partial(kit.cancel, jobs[3]))
            if offers.find:
                calls.append(partial(broker.find, Filter(), 10))
            if offers.registry:
                calls.append(partial(broker.beat, worker_info()))
            for call in calls:
                await self._cut(call, steps)
            await self._balance(kit, sent)
        await kit.crash()
        for _ in range(3):
            await kit.complete(await kit.drain())
            await kit.crash()
        stats = await kit.stats()
        assert (stats.pending, stats.running) == (0, 0), "case 73: a cut-off call left a job behind"

    @covers(73)
    async def test_a_cancelled_wait_leaves_the_broker_usable(self, kit: Kit) -> None:
        job = await kit.one()
        with anyio.move_on_after(0.05):
            await kit.broker.wait_finished(job.id)
        with anyio.move_on_after(0.05):
            async for _ in kit.broker.hints(worker_info(), lambda: 0):
                pass
        assert await kit.settle(await kit.take(job)) == "accepted"
        with anyio.fail_after(self.patience):
            assert await kit.broker.wait_finished(job.id) is not None
