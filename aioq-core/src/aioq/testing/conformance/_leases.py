"""Leases: who is alive keeps the job, who is not gives it back."""

import threading
from collections.abc import Sequence

import anyio

from aioq._records import Delivery, Renewed, Settlement, Token
from aioq.testing.conformance._base import BaseSuite
from aioq.testing.conformance._cases import covers
from aioq.testing.conformance._tools import Kit, new_worker

__all__ = ["LeaseCases"]


class LeaseCases(BaseSuite):
    """Promises of ``renew``, of the lease client and of rescue."""

    async def _renew(self, kit: Kit, *deliveries: Delivery) -> Renewed:
        tokens = [delivery.token for delivery in deliveries]
        return await kit.broker.renew(tokens, self.lease_ms)

    @covers(22, 42)
    async def test_an_expired_lease_is_rescued(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.take(job)
        await kit.lapse()
        assert await kit.status(job) == "running", "nothing is rescued but by upkeep"
        assert (await kit.upkeep()).rescued == 1
        info = await kit.info(job)
        assert (info.status, info.quarantined) == ("pending", False), "the first crash only marks"
        assert (info.crashes, info.retries) == (1, 0), "a crash is not a retry"
        again = await kit.take(job)
        assert (again.number, again.crashes, again.retries) == (2, 1, 0)

    @covers(22)
    async def test_a_living_lease_is_not_rescued(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.take(job)
        for _ in range(4):
            await kit.advance(self.lease_ms * 2 // 10)
            assert (await kit.upkeep()).rescued == 0, "a job was rescued before its lease expired"
        assert await kit.status(job) == "running"

    @covers(22)
    async def test_200_leases_expire_at_once(self, kit: Kit) -> None:
        await kit.enqueue(200)
        await kit.claim(200)
        await kit.lapse()
        rescued, more = 0, True
        while more:
            done = await kit.upkeep(budget=100)
            assert done.rescued <= 100, "upkeep went above its budget"
            rescued, more = rescued + done.rescued, done.more
        assert rescued == 200, "an expired lease was left behind"
        assert (await kit.stats()).pending == 200

    @covers(23, "renew")
    async def test_a_renewed_job_is_not_rescued(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        for _ in range(10):
            await kit.advance(self.lease_ms * 4 // 10)
            renewed = await self._renew(kit, delivery)
            assert (list(renewed.lost), list(renewed.cancelled)) == ([], [])
            assert (await kit.upkeep()).rescued == 0, "age is no reason to rescue"
        assert await kit.settle(delivery) == "accepted"

    @covers(23)
    async def test_a_late_renewal_keeps_what_nobody_rescued(self, kit: Kit) -> None:
        delivery = await kit.take(await kit.one())
        await kit.lapse()
        assert list((await self._renew(kit, delivery)).lost) == []
        assert (await kit.upkeep()).rescued == 0

    @covers(24)
    async def test_renewing_what_is_not_owned_creates_nothing(self, kit: Kit) -> None:
        job = await kit.one()
        rescued = await kit.take(job)
        await kit.crash()
        assert list((await self._renew(kit, rescued)).lost) == [rescued.token]
        assert await kit.status(job) == "pending", "a renewal brought a lease back to life"
        newer = await kit.take(job)
        assert list((await self._renew(kit, rescued, newer)).lost) == [rescued.token]
        assert await kit.settle(newer) == "accepted"
        assert list((await self._renew(kit, newer)).lost) == [newer.token]
        assert await kit.status(job) == "completed"

    @covers(24)
    async def test_an_old_token_extends_no_newer_lease(self, kit: Kit) -> None:
        job = await kit.one()
        old = await kit.take(job)
        await kit.crash()
        await kit.take(job)
        for _ in range(4):
            await kit.advance(self.lease_ms * 3 // 10)
            await self._renew(kit, old)
        assert (await kit.upkeep()).rescued == 1, "a stale worker kept another's lease alive"

    @covers(32)
    async def test_two_rescuers_rescue_once(self, kit: Kit, rival: Kit) -> None:
        jobs = await kit.enqueue(100)
        await kit.claim(100)
        await kit.lapse()
        rescued: list[int] = []

        async def rescue(hands: Kit) -> None:
            for _ in range(10):
                done = await hands.upkeep(budget=10)
                rescued.append(done.rescued)

        async with anyio.create_task_group() as group:
            for hands in (kit, rival, kit, rival):
                group.start_soon(rescue, hands)
        assert sum(rescued) == len(jobs), "rescuers at once missed a job or took one twice"
        for info in await kit.broker.get([job.id for job in jobs]):
            assert info is not None
            assert info.crashes == 1, "a crash was charged twice"

    @covers(34)
    async def test_a_lost_claim_comes_back(self, kit: Kit) -> None:
        job = await kit.one()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await kit.claim()
        # Whether the claim was applied, nobody can tell; either way the job comes back.
        if await kit.status(job) == "running":
            await kit.crash()
        await kit.take(job)

    @covers(36)
    async def test_a_full_batch_is_renewed_in_one_call(self, kit: Kit) -> None:
        size = kit.broker.capabilities.max_batch
        await kit.enqueue(size)
        deliveries = await kit.drain()
        await kit.lapse()
        assert list((await self._renew(kit, *deliveries)).lost) == []
        assert (await kit.upkeep()).rescued == 0
        assert (await kit.stats()).running == size

    @covers(88, "upkeep")
    async def test_an_outage_charges_nobody(self, kit: Kit) -> None:
        deliveries = [await kit.take(job) for job in await kit.enqueue(3)]
        await kit.upkeep()
        for _ in range(3):
            await kit.advance(3 * self.lease_ms)
            assert (await kit.upkeep()).rescued == 0, "rescue waits a lease after an outage"
            await kit.advance(self.lease_ms * 3 // 10)
            assert (await kit.upkeep()).rescued == 0, "rescue waits a whole lease"
            assert list((await self._renew(kit, *deliveries)).lost) == []
        for delivery in deliveries:
            assert (await kit.info(delivery)).crashes == 0, "an outage was charged as a crash"
        await kit.complete(deliveries)

    @covers(88)
    async def test_a_renewal_that_ends_the_outage_protects_the_others(self, kit: Kit) -> None:
        first, then = [await kit.take(job) for job in await kit.enqueue(2)]
        await kit.upkeep()
        await kit.advance(3 * self.lease_ms)
        await self._renew(kit, first)
        assert (await kit.upkeep()).rescued == 0, "the first to come back cost its neighbour a job"
        assert list((await self._renew(kit, then)).lost) == []

    @covers(88)
    async def test_the_dead_come_back_one_lease_after_the_outage(self, kit: Kit) -> None:
        job = await kit.one()
        await kit.take(job)
        await kit.upkeep()
        await kit.advance(3 * self.lease_ms)
        assert (await kit.upkeep()).rescued == 0
        await kit.lapse()
        await kit.upkeep()
        assert (await kit.info(job)).crashes == 1, "an outage kept a dead worker's job for ever"

    @covers(89, "claim")
    async def test_a_process_adopts_its_own_job(self, kit: Kit) -> None:
        worker = new_worker()
        job = await kit.one()
        await kit.take(job, worker=worker)
        await kit.crash()
        assert (await kit.info(job)).crashes == 1
        again = await kit.take(job, worker=worker)
        assert (again.number, again.crashes) == (2, 0), "the process lives: nothing crashed"
        assert (await kit.info(job)).crashes == 0

    @covers(89)
    async def test_another_process_adopts_nothing(self, kit: Kit) -> None:
        worker = new_worker()
        job = await kit.one()
        await kit.take(job, worker=worker)
        await kit.crash()
        other = await kit.take(job)
        assert other.crashes == 1
        await kit.settle(other, "release")
        assert (await kit.take(job, worker=worker)).crashes == 1, (
            "only the worker of the last delivery, ended by a rescue, takes a crash back"
        )

    @covers(89)
    async def test_a_job_given_back_is_not_adopted(self, kit: Kit) -> None:
        worker = new_worker()
        job = await kit.one()
        await kit.take(job)
        await kit.crash()
        await kit.settle(await kit.take(job, worker=worker), "release")
        assert (await kit.take(job, worker=worker)).crashes == 1, "no rescue, nothing to take back"

    @covers(90)
    async def test_renew_races_settle(self, kit: Kit, rival: Kit) -> None:
        deliveries: Sequence[Delivery] = []
        for number in range(self.rounds):
            await kit.enqueue(4)
            deliveries = await kit.claim(4)
            tokens = [delivery.token for delivery in deliveries]
            ends = tokens[::2] if number % 2 else tokens[::-2]
            lost: list[Token] = []

            async def renew() -> None:
                lost.extend((await rival.broker.renew(tokens, self.lease_ms)).lost)  # noqa: B023

            async def settle() -> None:
                items = [Settlement(token, "completed") for token in ends]  # noqa: B023
                assert set(await kit.settle_all(items)) == {"accepted"}

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    for call in (renew, settle) if number % 4 < 2 else (settle, renew):
                        group.start_soon(call)
            assert set(lost) <= set(ends), "a live delivery was reported lost"
            await kit.complete([item for item in deliveries if item.token not in ends])

    @covers(91, "for_lease_thread")
    async def test_the_lease_client_needs_no_event_loop(self, kit: Kit) -> None:
        job = await kit.one()
        delivery = await kit.take(job)
        await kit.lapse()
        client = kit.broker.for_lease_thread()
        answers: list[Renewed] = []

        def renew() -> None:
            try:
                answers.append(client.renew([delivery.token, b"no token"], self.lease_ms))
            finally:
                client.close()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        thread.join(30)  # blocks the loop on purpose: that is when this client is needed
        assert not thread.is_alive(), "the lease client waits for the event loop"
        assert [list(answer.lost) for answer in answers] == [[b"no token"]]
        assert (await kit.upkeep()).rescued == 0, "the lease client did not extend the lease"
        assert await kit.settle(delivery) == "accepted"
