"""Brokers with one fault each: the kit must catch every one, by the case that names it.

Each fault is a small change of the memory broker, most of them defects that a real queue once had.
``python tests/conformance/test_broken_brokers.py`` prints all cases that catch each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aioq._broker import BaseBroker
from aioq._fence import Fence
from aioq._memory import MemoryBroker
from aioq._memory._row import Row
from aioq._memory._store import Store
from aioq._records import (
    Added,
    CancelAnswer,
    Claimed,
    Delivery,
    Filter,
    JobInfo,
    NewJob,
    Page,
    QueueStats,
    Renewed,
    Settled,
    Settlement,
    Token,
    Upkeep,
)
from aioq.testing import FakeClock
from aioq.testing.conformance import BrokerSuite, Kit, check_model, covered_by
from aioq.testing.conformance._cases import needs_of

Numbers = Mapping[str, int]
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Fault:
    """A broken broker, the cases that must catch it, and whether the model must too."""

    broker: type[MemoryBroker]
    cases: frozenset[int]
    in_model: bool


FAULTS: list[Fault] = []


def caught_by(*cases: int, in_model: bool = True) -> Callable[[type], type]:
    def register(broker: type) -> type:
        FAULTS.append(Fault(broker, frozenset(cases), in_model))
        return broker

    return register


class Broken(MemoryBroker):
    """Swaps the class of the store, so that a fault can change any of its steps."""

    store_class: type[Store] = Store

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._store.__class__ = self.store_class


def broken_store(store_class: type[Store]) -> type[Broken]:
    return type(store_class.__name__, (Broken,), {"store_class": store_class})


def store_fault(*cases: int, in_model: bool = True) -> Callable[[type[Store]], type[Store]]:
    def register(store_class: type[Store]) -> type[Store]:
        caught_by(*cases, in_model=in_model)(broken_store(store_class))
        return store_class

    return register


# -- coming in -------------------------------------------------------------------------------------


@caught_by(6, 85)
class DropsTheProducerNumber(MemoryBroker):
    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Numbers
    ) -> Sequence[Added]:
        return await super().enqueue(jobs, producer=producer, numbers={})


@caught_by(6)
class ForgetsTheQueueOfNumbers(MemoryBroker):
    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Numbers
    ) -> Sequence[Added]:
        numbers = dict.fromkeys(numbers, max(numbers.values(), default=0))
        shared = dict.fromkeys(["q", "r"], max(numbers.values()))
        return await super().enqueue(jobs, producer=producer, numbers=shared)


@caught_by(6, in_model=False)
class ForgetsNumbersSoon(MemoryBroker):
    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        self._store._producers.clear()
        return await super().upkeep(queues, lease_ms=lease_ms, budget=budget)


@store_fault(5)
class ResetsAnExistingJob(Store):
    def _add(self, job: NewJob, now: int) -> Added:
        if job.id in self._rows:
            self._remove(self._rows[job.id])
        return super()._add(job, now)


@store_fault(5)
class ForgetsIdsOfFinishedJobs(Store):
    def _add(self, job: NewJob, now: int) -> Added:
        if job.id in self._rows and self._rows[job.id].place == "done":
            self._remove(self._rows[job.id])
        return super()._add(job, now)


@caught_by(4, in_model=False)
class StoresBodiesAsText(MemoryBroker):
    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Numbers
    ) -> Sequence[Added]:
        as_text = [job._replace(body=job.body.decode(errors="replace").encode()) for job in jobs]
        return await super().enqueue(as_text, producer=producer, numbers=numbers)


@caught_by(73, in_model=False)
class StoresJobByJob(MemoryBroker):
    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Numbers
    ) -> Sequence[Added]:
        added = list(await super().enqueue(jobs[:1], producer=producer, numbers=numbers))
        for job in jobs[1:]:
            await anyio.lowlevel.checkpoint()
            added += await super().enqueue([job], producer=producer, numbers={})
            if added[0].status == "already":
                added[-1] = added[0]
        return added


# -- going out -------------------------------------------------------------------------------------


@caught_by(15, 18)
class IgnoresDelays(MemoryBroker):
    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Numbers
    ) -> Sequence[Added]:
        at_once = [job._replace(delay_ms=0, at_ms=None) for job in jobs]
        return await super().enqueue(at_once, producer=producer, numbers=numbers)


@store_fault(7)
class GivesMoreThanAsked(Store):
    def claim(
        self,
        names: Sequence[str],
        limit: int,
        worker: str,
        lease_ms: int,
        max_bytes: int,
        quarantined: bool,
    ) -> Claimed:
        return super().claim(names, limit + 1, worker, lease_ms, max_bytes, quarantined)


@caught_by(8)
class IgnoresMaxBytes(MemoryBroker):
    async def claim(self, *args: Any, **options: Any) -> Claimed:
        return await super().claim(*args, **{**options, "max_bytes": 1 << 40})


@caught_by(13)
class IgnoresTheOrderOfQueues(MemoryBroker):
    async def claim(self, queues: Sequence[str], limit: int, **options: Any) -> Claimed:
        return await super().claim(sorted(queues), limit, **options)


class _Ordered(Store):
    """Sorts ready jobs by a key of its own."""

    def key(self, row: Row) -> int:
        raise NotImplementedError

    def _lease(self, row: Row, *args: Any) -> Delivery:
        return super()._lease(row, *args)

    def claim(self, names: Sequence[str], *args: Any) -> Claimed:
        for row in self._rows.values():
            if row.place == "ready":
                line = self._queue(row.job.queue).ready
                row.sort_key = self.key(row)
                line.left()
                line.add(row)
        return super().claim(names, *args)


@store_fault(9)
class LastInFirstOut(_Ordered):
    def key(self, row: Row) -> int:
        return -list(self._rows).index(row.job.id)


@store_fault(10, 11, in_model=False)
class StrictPriority(_Ordered):
    def key(self, row: Row) -> int:
        return row.due_ms - row.job.priority * 10**9


@store_fault(10)
class NoPriority(_Ordered):
    def key(self, row: Row) -> int:
        return row.due_ms


@store_fault(17, in_model=False)
class PromotesEverythingAtOnce(Store):
    def _promote(self, queue: Any, now: int, limit: int) -> int:
        return super()._promote(queue, now, 1 << 40)


@store_fault(16)
class LeavesScheduledJobsToUpkeep(Store):
    def claim(self, names: Sequence[str], *args: Any) -> Claimed:
        promote, self._promote = self._promote, lambda *_: 0  # type: ignore[method-assign]
        try:
            return super().claim(names, *args)
        finally:
            self._promote = promote  # type: ignore[method-assign]


@store_fault(16, 38)
class LosesPriorityOnPromotion(Store):
    def _promote(self, queue: Any, now: int, limit: int) -> int:
        for row in self._rows.values():
            if row.place == "scheduled":
                row.sort_key = row.due_ms
        return super()._promote(queue, now, limit)


@store_fault(14)
class GivesFromPausedQueues(Store):
    def set_paused(self, queue: str, paused: bool) -> None:
        super().set_paused(queue, False)


@caught_by(19, 47, in_model=False)
class WakesNobody(MemoryBroker):
    def _wake(self, besides: str | None = None) -> None:
        pass

    async def cancel(self, job_ids: Sequence[str]) -> Sequence[CancelAnswer]:
        listeners, self._listeners = self._listeners, []
        try:
            return await super().cancel(job_ids)
        finally:
            self._listeners = listeners


@caught_by(21, 51, in_model=False)
class LooksThenTakes(MemoryBroker):
    """The claim reads, and takes what it has read a moment later."""

    async def claim(
        self, queues: Sequence[str], limit: int, *, worker: str, lease_ms: int, **options: Any
    ) -> Claimed:
        store = self._store
        ready = [row for row in store._rows.values() if row.place == "ready"][:limit]
        ready = [row for row in ready if row.job.queue in queues]
        if not ready or options:
            return await super().claim(queues, limit, worker=worker, lease_ms=lease_ms, **options)
        await anyio.lowlevel.checkpoint()
        jobs = []
        now = store._now()
        for row in ready:
            store._leave(row)
            jobs.append(store._lease(row, worker, now + lease_ms, now, store._queues["q"].ready))
        return Claimed(jobs)


# -- leases ----------------------------------------------------------------------------------------


@store_fault(22, 34, 42)
class NeverRescues(Store):
    def _rescue(self, now: int, limit: int) -> tuple[int, int]:
        return 0, 0


@store_fault(78)
class PopsAtClaim(Store):
    """The job leaves the store when it is handed out; a crash loses it."""

    def _rescue(self, now: int, limit: int) -> tuple[int, int]:
        for row in [row for row in self._running.values() if row.lease_until < now]:
            self._remove(row)
        return 0, 0


@store_fault(23, 36)
class RescuesByAge(Store):
    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        before = {row: row.lease_until for row in self._running.values()}
        renewed = super().renew(tokens, lease_ms)
        for row, until in before.items():
            row.lease_until = until
        return renewed


@store_fault(24)
class RenewsForStrangers(Store):
    """Renewing goes by the id alone, like the heartbeats of several queues."""

    def _holder(self, token: Token) -> Row | None:
        try:
            return self._running.get(Fence.unpack(token).job_id)
        except Exception:
            return None


@store_fault(24)
class RenewalBringsBack(Store):
    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        for token in tokens:
            row = self._rows.get(Fence.unpack(token).job_id) if len(token) == 44 else None
            if row is not None and row.place == "ready" and row.token == token:
                self._leave(row)
                row.place = "running"
                self._running[row.job.id] = row
        return super().renew(tokens, lease_ms)


@store_fault(88)
class ChargesAnOutage(Store):
    def _touch(self, now: int, lease_ms: int) -> None:
        self._stamp = now


@store_fault(89)
class KeepsTheCrashOfTheLiving(Store):
    def _lease(self, row: Row, *args: Any) -> Delivery:
        crashes = row.crashes
        super()._lease(row, *args)
        row.crashes = crashes
        return row.delivery(self._now())


@store_fault(89)
class TakesEveryCrashBack(Store):
    def _lease(self, row: Row, worker: str, *args: Any) -> Delivery:
        row.ended = False
        return super()._lease(row, worker, *args)


@caught_by(32, in_model=False)
class ReadsThenRescues(MemoryBroker):
    """The rescuer reads the expired leases first and moves the jobs later, by id."""

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        store = self._store
        now = store._now()
        expired = [row for row in store._running.values() if row.lease_until < now]
        if not expired or now < store._no_rescue_before:
            return await super().upkeep(queues, lease_ms=lease_ms, budget=budget)
        await anyio.lowlevel.checkpoint()
        for row in expired[:budget]:
            row.crashes += 1
            store._wait(row, now)
        return Upkeep(rescued=len(expired[:budget]), more=len(expired) >= budget)


# -- ends ------------------------------------------------------------------------------------------


class _Settling(Store):
    def current(self, item: Settlement) -> Row | None:
        try:
            return self._rows.get(Fence.unpack(item.token).job_id)
        except Exception:
            return None


@store_fault(25, 26, 29, 31)
class SettlesWithoutTheToken(_Settling):
    def _settle(self, item: Settlement, now: int) -> Settled:
        row = self.current(item)
        if row is not None and row.place == "running":
            item = item._replace(token=row.token)
        return super()._settle(item, now)


@store_fault(29)
class FencesByNumberOnly(_Settling):
    def _settle(self, item: Settlement, now: int) -> Settled:
        row = self.current(item)
        if row is not None and row.owner and Fence.unpack(item.token).number == row.number:
            item = item._replace(token=row.token)
        return super()._settle(item, now)


@store_fault(99, in_model=False)
class TakesAnIdForItsJob(_Settling):
    """What was enqueued under the id of an older job is settled as that one."""

    def _settle(self, item: Settlement, now: int) -> Settled:
        row = self.current(item)
        if row is not None:
            fence = Fence.unpack(item.token)._replace(enqueued_ms=row.enqueued_ms)
            item = item._replace(token=fence.pack())
        return super()._settle(item, now)


@store_fault(99, in_model=False)
class AcceptsLateCompletionsOfAnOlderJob(_Settling):
    """The same, but only where nobody runs the job: what a completion may overtake."""

    def _settle(self, item: Settlement, now: int) -> Settled:
        row = self.current(item)
        if row is not None and item.kind == "completed" and row.place == "ready":
            fence = Fence.unpack(item.token)._replace(enqueued_ms=row.enqueued_ms)
            if row.number < fence.number:
                item = item._replace(token=fence.pack())
        return super()._settle(item, now)


@store_fault(27)
class RefusesLateCompletions(_Settling):
    def _settle(self, item: Settlement, now: int) -> Settled:
        row = self.current(item)
        if row is not None and row.place in ("ready", "quarantine", "scheduled") and not row.ended:
            return "stale"
        return super()._settle(item, now)


@store_fault(28)
class AcceptsLateFailures(_Settling):
    def _settle(self, item: Settlement, now: int) -> Settled:
        row = self.current(item)
        if row is not None and row.place == "ready" and not row.ended and row.number:
            self._apply(row, item, now)
            return "accepted"
        return super()._settle(item, now)


@store_fault(30)
class ForgetsThatADeliveryEnded(_Settling):
    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        super()._apply(row, item, now)
        row.ended = row.place == "done"


@store_fault(30)
class SaysStaleToAResend(_Settling):
    def _settle(self, item: Settlement, now: int) -> Settled:
        answer = super()._settle(item, now)
        return "stale" if answer == "already" else answer


@store_fault(31)
class FailsTheWholeBatch(Store):
    def settle(self, settlements: Any) -> list[Settled]:
        items = list(settlements)
        if any(self._holder(item.token) is None for item in items):
            return ["stale"] * len(items)
        return super().settle(items)


@store_fault(78, 38)
class LosesRetries(Store):
    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        if item.kind == "retry":
            self._remove(row)
        else:
            super()._apply(row, item, now)


@store_fault(40)
class CountsEverySnooze(Store):
    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        row.retries += item.kind == "snooze"
        super()._apply(row, item, now)


@store_fault(35)
class ReleasesToTheBack(Store):
    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        if item.kind == "release":
            row.due_at(now + item.delay_ms)
        super()._apply(row, item, now)


@caught_by(33, in_model=False)
class ChecksThenSettles(MemoryBroker):
    """The token is checked, and the job moved a moment later."""

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        store = self._store
        held = [store._holder(item.token) for item in settlements]
        await anyio.lowlevel.checkpoint()
        answers: list[Settled] = []
        for row, item in zip(held, settlements, strict=True):
            if row is None:
                answers.append(store._settle(item, store._now()))
            else:
                store._apply(row, item, store._now())
                answers.append("accepted")
        self._announce()
        return answers


@store_fault(79)
class LosesResults(Store):
    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        super()._apply(row, item._replace(result=None, content_type=None), now)


@store_fault(39)
class LosesNotes(Store):
    def _apply(self, row: Row, item: Settlement, now: int) -> None:
        super()._apply(row, item._replace(note=None), now)


@caught_by(65, in_model=False)
class NeverAnnouncesTheEnd(MemoryBroker):
    def _announce(self) -> None:
        pass


# -- crashes ---------------------------------------------------------------------------------------


@store_fault(22)
class ChargesACrashAsRetry(Store):
    def _rescue(self, now: int, limit: int) -> tuple[int, int]:
        running = list(self._running.values())
        done = super()._rescue(now, limit)
        for row in running:
            row.retries += row.place != "running"
        return done


@store_fault(41, 42, 92)
class HasNoQuarantine(Store):
    def _wait(self, row: Row, now: int) -> None:
        crashes, row.crashes = row.crashes, 0
        super()._wait(row, now)
        row.crashes = crashes

    def _lease(self, row: Row, *args: Any) -> Delivery:
        delivery = super()._lease(row, *args)
        row.from_quarantine = row.crashes >= 2
        return delivery


@caught_by(42)
class HandsOutTwoSuspects(MemoryBroker):
    async def claim(self, queues: Sequence[str], limit: int, **options: Any) -> Claimed:
        first = await super().claim(queues, limit, **options)
        left = limit - len(first.jobs)
        if left <= 0 or not any(job.quarantined for job in first.jobs):
            return first
        then = await super().claim(queues, left, **options)
        return Claimed([*first.jobs, *then.jobs], then.more, then.due_in_ms)


@store_fault(41)
class NeverGivesUp(Store):
    def _rescue(self, now: int, limit: int) -> tuple[int, int]:
        self._max_crashes = 1 << 30
        return super()._rescue(now, limit)


@store_fault(42)
class HandsSuspectsOutFirst(Store):
    def _next_line(self, queue: Any, quarantined: bool) -> Any:
        if quarantined and not queue.paused and queue.quarantine.head():
            return queue.quarantine
        return super()._next_line(queue, quarantined)


# -- cancel, records, looking ----------------------------------------------------------------------


@store_fault(47, 48, 50)
class ForgetsTheCancelFlag(Store):
    def _cancel(self, job_id: str, now: int) -> tuple[CancelAnswer, Token | None]:
        answer = super()._cancel(job_id, now)
        if row := self._rows.get(job_id):
            row.cancel_asked = False
        return answer


@store_fault(46)
class CancelsOnlyReadyJobs(Store):
    def _cancel(self, job_id: str, now: int) -> tuple[CancelAnswer, Token | None]:
        row = self._rows.get(job_id)
        if row is not None and row.place in ("scheduled", "quarantine"):
            row.cancel_asked = True
            return "asked", None
        return super()._cancel(job_id, now)


@store_fault(49)
class CancelBeatsTheCompletion(Store):
    def _finish(self, row: Row, status: Any, now: int) -> None:
        super()._finish(row, "cancelled" if row.cancel_asked else status, now)


@store_fault(43)
class RequeueStartsNumbersAgain(Store):
    def _requeue(self, job_id: str, now: int) -> bool:
        done = super()._requeue(job_id, now)
        if done:
            self._rows[job_id].number = 0
        return done


@store_fault(84)
class DeletesWhatRuns(Store):
    def _delete(self, job_id: str) -> bool:
        row = self._rows.get(job_id)
        if row is not None:
            self._remove(row)
        return row is not None


@store_fault(68, 82, in_model=False)
class KeepsRecordsForEver(Store):
    def _trim(self, now: int, limit: int) -> int:
        return 0


@store_fault(68, in_model=False)
class TrimsWithoutBound(Store):
    def _trim(self, now: int, limit: int) -> int:
        return super()._trim(now, 1 << 40)


@store_fault(20, 83, in_model=False)
class ExpiresWhatWaits(Store):
    def _trim(self, now: int, limit: int) -> int:
        for row in list(self._rows.values()):
            if now - row.enqueued_ms > 24 * HOUR_MS:
                self._remove(row)
        return super()._trim(now, limit)


@store_fault(64, in_model=False)
class ExpiresResultsWithTheRecords(Store):
    def _trim(self, now: int, limit: int) -> int:
        for row in list(self._rows.values()):
            if row.place == "done" and now - (row.completed_ms or now) > 24 * HOUR_MS:
                self._remove(row)
        return super()._trim(now, limit)


@store_fault(67, in_model=False)
class PagesByOffset(Store):
    def find(self, where: Filter, limit: int, cursor: str | None) -> Page:
        start = int(cursor or 0)
        rows = sorted(self._matching(where), key=lambda row: row.job.id, reverse=True)
        page: list[JobInfo] = [row.info() for row in rows[start : start + limit]]
        return Page(page, str(start + limit) if len(rows) > start + limit else None)


@store_fault(66, 78)
class CountersDrift(Store):
    def counts(self, names: Sequence[str] | None) -> list[QueueStats]:
        return [
            stats._replace(completed=stats.completed + stats.cancelled)
            for stats in super().counts(names)
        ]


class Neighbourly(MemoryBroker):
    """Its namespaces share something."""

    def meet(self, neighbour: MemoryBroker) -> None:
        raise NotImplementedError


@caught_by(98, in_model=False)
class NamespacesAreOnlyNames(Neighbourly):
    def meet(self, neighbour: MemoryBroker) -> None:
        neighbour._store = self._store


@caught_by(98, in_model=False)
class WorkersOfAllNamespaces(Neighbourly):
    def meet(self, neighbour: MemoryBroker) -> None:
        neighbour._workers = self._workers


@caught_by(98, in_model=False)
class PausesForAllNamespaces(Neighbourly):
    def meet(self, neighbour: MemoryBroker) -> None:
        self._neighbour = neighbour

    async def set_paused(self, queue: str, paused: bool) -> None:
        await super().set_paused(queue, paused)
        await self._neighbour.set_paused(queue, paused)


# -- the kit on these brokers ----------------------------------------------------------------------


class QuickSuite(BrokerSuite):
    rounds = 20
    patience = 0.3


def catchers(broker_class: type[MemoryBroker], cases: frozenset[int] | None) -> dict[int, str]:
    """Case number -> name of a test of it that fails on this broker; only these cases, if given."""
    caught: dict[int, str] = {}
    for name in dir(QuickSuite):
        test = getattr(QuickSuite, name)
        numbers = [item for item in covered_by(test) if isinstance(item, int)]
        # The ledger is checked after each test, so any may find that jobs are lost.
        wanted = cases is None or 78 in cases or cases.intersection(numbers)
        if not name.startswith("test_") or not wanted:
            continue
        for arguments in parameters(test):
            for part in run(broker_class, test, arguments):
                caught.update(dict.fromkeys(numbers if part == "test" else [78], name))
    return caught


def parameters(test: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    if not marks:
        yield {}
        return
    name, values = marks[0].args
    for value in values:
        yield {name: value}


def run(
    broker_class: type[MemoryBroker], test: Callable[..., Any], arguments: dict[str, Any]
) -> Iterator[str]:
    """What fails of one test, itself or the ledger, on a fresh broker with the fixtures it asks."""
    clock = FakeClock()
    broker: BaseBroker = broker_class(clock=clock)
    if not all(getattr(broker.capabilities, name) for name in needs_of(test)):
        return

    async def advance(ms: int) -> None:
        clock.advance(ms)

    async def call() -> list[str]:
        failed = []
        kit = Kit(broker, advance, lease_ms=QuickSuite.lease_ms)
        asked = test.__code__.co_varnames[: test.__code__.co_argcount]
        if "rival" in asked:
            arguments["rival"] = kit.on(broker)
        if "next_door" in asked:
            neighbour = broker_class(clock=clock)
            neighbour.use_namespace("next-door")
            if isinstance(broker, Neighbourly):
                broker.meet(neighbour)
            arguments["next_door"] = Kit(neighbour, advance, lease_ms=QuickSuite.lease_ms)
        try:
            await test(QuickSuite(), kit=kit, **arguments)
        except Exception:
            failed.append("test")
        try:
            await kit.check_ledger()
        except AssertionError:
            failed.append("ledger")
        return failed

    yield from anyio.run(call)


ids = [fault.broker.__name__ for fault in FAULTS]


def test_the_healthy_broker_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuickSuite, "patience", BrokerSuite.patience)
    assert catchers(MemoryBroker, None) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=ids)
def test_the_cases_catch_it(fault: Fault) -> None:
    missed = fault.cases - catchers(fault.broker, fault.cases).keys()
    assert not missed, f"{fault.broker.__name__} passes the tests of {sorted(missed)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.in_model], ids=lambda fault: fault.broker.__name__
)
def test_the_model_catches_it(fault: Fault) -> None:
    with pytest.raises(AssertionError, match="case 77"):
        check_model(
            lambda clock: fault.broker(clock=clock), examples=300, repeatable=True, shrink=False
        )


if __name__ == "__main__":
    for fault in FAULTS:
        numbers = ", ".join(map(str, sorted(catchers(fault.broker, None))))
        print(f"{fault.broker.__name__}: {numbers}")
