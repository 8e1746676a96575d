"""Random operations on the broker under test and on the reference: users must see the same.

The reference is the memory broker. Both get the same calls and the same jumps of the clock; after
each step answers, jobs and counts are compared. Tokens are each broker's own, so they are paired by
delivery. A store that only takes an offset to its own clock sees real time pass; then it passes
for the reference, too. Durations lie on a grid of 10 s and leases beside it, so that a call that
takes a little decides the same; a sequence with one that took long is given up.
"""

import os
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar, cast

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, reject, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aioq._broker import BaseBroker
from aioq._fence import Fence
from aioq._memory import MemoryBroker
from aioq._records import (
    FINISHED,
    STATUSES,
    Delivery,
    Filter,
    JobInfo,
    NewJob,
    QueueStats,
    SettleKind,
    Settlement,
    Status,
    Token,
)
from aioq.testing._clock import FakeClock
from aioq.testing.conformance._cases import covers

__all__ = ["ModelSuite", "OpenBroker", "check_model"]

T = TypeVar("T")

OpenBroker: TypeAlias = Callable[[FakeClock], AbstractAsyncContextManager[BaseBroker]]
"""Gives an open, empty broker whose store reads this clock, or adds ``elapsed_ms`` to its own."""

LEASE_MS = 25_000
GRID_MS = 10_000
SLOW, TOO_LONG = 0.5, 1.5
"""Seconds of a call that make it doubtful to compare two clocks, and impossible: upkeep compares
with half a lease, which is 2.5 s beside the grid, and other calls have taken their part of it."""
TRIES = 5
"""How often a run may fail in which a call was slow."""
QUEUES = ("q", "r")
WORKERS = tuple(f"00000000-0000-4000-8000-00000000000{number}" for number in range(2))
STRANGER = "00000000-0000-4000-8000-0000000000ff"
KINDS: tuple[SettleKind, ...] = (
    "completed",
    "failed",
    "cancelled",
    "dead",
    "retry",
    "snooze",
    "release",
)

pick = st.integers(min_value=0, max_value=60)
delays = st.sampled_from((0, 0, 0, GRID_MS, 3 * GRID_MS))
queue_orders = st.sampled_from((QUEUES, QUEUES, QUEUES[::-1], QUEUES[:1], QUEUES[1:]))
workers = st.sampled_from(WORKERS)


class _Plan(NamedTuple):
    """A job to enqueue, before it has an id."""

    queue: str
    delay_ms: int
    priority: int
    size: int
    reuse: int | None
    """Which earlier id is given again."""


class _End(NamedTuple):
    """How a delivery shall end."""

    which: int
    kind: SettleKind
    delay_ms: int
    note: bytes | None
    result: bytes | None
    forged: bool
    """By a worker that never had it."""


class _Pair(NamedTuple):
    """One delivery as each broker knows it."""

    job_id: str
    number: int
    tested: Token
    reference: Token

    def forged(self) -> "_Pair":
        return self._replace(tested=_forge(self.tested), reference=_forge(self.reference))


class _Batch(NamedTuple):
    """What was sent, to send it again."""

    jobs: list[NewJob]
    producer: bytes
    numbers: dict[str, int]


plans = st.builds(
    _Plan,
    queue=st.sampled_from(QUEUES),
    delay_ms=delays,
    priority=st.integers(-1, 2),
    size=st.sampled_from((1, 1, 40, 90)),
    reuse=st.one_of(st.none(), st.none(), st.none(), pick),
)
ends = st.builds(
    _End,
    which=pick,
    kind=st.sampled_from(KINDS),
    delay_ms=delays,
    note=st.sampled_from((None, b"one", b"two")),
    result=st.sampled_from((None, None, b"result")),
    forged=st.sampled_from((False, False, False, True)),
)


class _Clock(FakeClock):
    """Goes on by itself as soon as somebody takes ``elapsed_ms`` as an offset to another clock;
    looked at, and half a second at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._passed_ms = 0
        self.beside_another = False

    @property
    def elapsed_ms(self) -> int:
        self.beside_another = True
        return super().elapsed_ms

    def look(self) -> None:
        passed = int((time.monotonic() - self._began) * 1000)
        if self.beside_another and passed - self._passed_ms >= 500:
            self._passed_ms = passed

    def __call__(self) -> int:
        return super().__call__() + self._passed_ms


class BrokerMachine(RuleBasedStateMachine):
    """Drives both brokers; ``check_model`` makes a subclass that knows the broker under test.

    What the rules choose from is mostly what would happen (live deliveries are settled, finished
    jobs requeued), so that short sequences reach far; the rest of the time it is anything.
    """

    open_broker: ClassVar[OpenBroker]
    portal: ClassVar[BlockingPortal]
    slow: ClassVar[bool] = False
    """Whether there was a slow call beside a clock that went on."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._clock = _Clock()
        opened = type(self).open_broker(self._clock)
        self._tested: BaseBroker = self._stack.enter_context(
            self.portal.wrap_async_context_manager(opened)
        )
        self._offers = self._tested.capabilities
        self._reference = MemoryBroker(clock=self._clock, max_crashes=self._tested.max_crashes)
        self._jobs: list[NewJob] = []
        self._known: dict[str, JobInfo] = {}
        """What the reference said after the last step."""
        self._pairs: list[_Pair] = []
        self._batches: list[_Batch] = []

    def teardown(self) -> None:
        self._stack.close()

    # -- rules ------------------------------------------------------------------------------------

    @initialize(chosen=st.lists(plans, min_size=2, max_size=6))
    def begin(self, chosen: list[_Plan]) -> None:
        self.enqueue(chosen)

    @rule(chosen=st.lists(plans, min_size=1, max_size=4))
    def enqueue(self, chosen: list[_Plan]) -> None:
        jobs = [self._new_job(plan) for plan in chosen]
        # One count per queue, or a broker that mixes the queues up would look right.
        numbers = {
            queue: 1 + sum(queue in batch.numbers for batch in self._batches)
            for queue in sorted({job.queue for job in jobs})
        }
        self._batches.append(_Batch(jobs, b"producer", numbers))
        self._send(self._batches[-1])

    @rule(which=pick)
    def send_again(self, which: int) -> None:
        self._send(_chosen(self._batches, which))

    @rule(
        after_ms=st.sampled_from((0, 0, GRID_MS, 3 * GRID_MS)),
        worker=workers,
        limit=st.sampled_from((1, 2, 3, 6)),
        queues=queue_orders,
        max_bytes=st.sampled_from((1_000_000, 100)),
        quarantined=st.sampled_from((True, True, True, False)),
    )
    def claim(
        self,
        after_ms: int,
        worker: str,
        limit: int,
        queues: Sequence[str],
        max_bytes: int,
        quarantined: bool,
    ) -> None:
        self._clock.advance(after_ms)
        self._claim(worker, limit, queues, max_bytes=max_bytes, quarantined=quarantined)

    @precondition(lambda self: self._live())
    @rule(chosen=st.lists(ends, min_size=1, max_size=4))
    def settle(self, chosen: list[_End]) -> None:
        self._settle(self._live(), chosen)

    @precondition(lambda self: self._pairs)
    @rule(chosen=st.lists(ends, min_size=1, max_size=4))
    def settle_late(self, chosen: list[_End]) -> None:
        self._settle(self._pairs, chosen)

    @precondition(lambda self: self._pairs)
    @rule(chosen=st.lists(pick, min_size=1, max_size=4))
    def renew(self, chosen: list[int]) -> None:
        self._renew(list({_chosen(self._pairs, which): None for which in chosen}))

    @rule()
    def upkeep(self) -> None:
        self._upkeep()

    @rule()
    def outage(self) -> None:
        self._clock.advance(12 * GRID_MS)
        self._upkeep()

    @precondition(lambda self: self._live())
    @rule(spared=st.lists(pick, max_size=2))
    def workers_die(self, spared: list[int]) -> None:
        self._lapse(spared)

    @rule(victims=st.lists(workers, min_size=1, max_size=4))
    def workers_die_one_after_the_other(self, victims: list[str]) -> None:
        for worker in victims:
            self._claim(worker, 6, QUEUES)
            self._look()
            self._lapse([])

    @precondition(lambda self: self._offers.cancel)
    @rule(which=pick, running=st.booleans())
    def cancel(self, which: int, running: bool) -> None:
        live = [pair.job_id for pair in self._live()] if running else []
        job_id = _chosen(live or [job.id for job in self._jobs], which)
        self._same("cancel", *self._both(lambda broker: broker.cancel([job_id])))

    @precondition(lambda self: self._offers.requeue)
    @rule(chosen=st.lists(pick, min_size=1, max_size=3), ended=st.booleans())
    def requeue(self, chosen: list[int], ended: bool) -> None:
        done = [info.id for info in self._known.values() if info.status in FINISHED]
        candidates = (ended and done) or [job.id for job in self._jobs]
        ids = list({_chosen(candidates, which): None for which in chosen})
        self._same("requeue", *self._both(lambda broker: broker.requeue(ids)))

    @precondition(lambda self: self._offers.delete)
    @rule(which=pick, status=st.sampled_from((None, None, *STATUSES)))
    def delete(self, which: int, status: Status | None) -> None:
        job = _chosen(self._jobs, which)
        if status is None:
            self._same("delete", *self._both(lambda broker: broker.delete([job.id])))
        else:
            where = Filter(job.queue, frozenset({status}))
            self._same("delete_where", *self._both(lambda broker: broker.delete_where(where, 500)))

    @precondition(lambda self: self._offers.pause)
    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        self._both(lambda broker: broker.set_paused(queue, paused))

    @precondition(lambda self: self._offers.find)
    @rule(
        queue=st.sampled_from((None, *QUEUES)),
        status=st.sampled_from((None, *STATUSES)),
        finished_for_ms=st.sampled_from((None, 0, GRID_MS // 2)),
        limit=st.integers(1, 5),
    )
    def find(
        self, queue: str | None, status: Status | None, finished_for_ms: int | None, limit: int
    ) -> None:
        statuses: frozenset[Status] | None = None if status is None else frozenset({status})
        where = Filter(queue, statuses, finished_for_ms=finished_for_ms)

        async def listing(broker: BaseBroker) -> list[dict[str, object]]:
            found: list[JobInfo] = []
            cursor: str | None = None
            for _ in range(1_000):
                page = await broker.find(where, limit, cursor)
                found += page.jobs
                cursor = page.cursor
                if cursor is None:
                    return [_info_view(info) for info in found]
            raise AssertionError("find: the listing never ends")

        self._same("find", *self._both(listing))

    # -- what users see ---------------------------------------------------------------------------

    @invariant()
    def same_for_users(self) -> None:
        self._look()
        self._clock.advance(1)  # no two steps at one instant, as on a real clock

    def _look(self) -> None:
        ids = [job.id for job in self._jobs]

        async def look(broker: BaseBroker) -> tuple[list[JobInfo | None], list[QueueStats]]:
            return list(await broker.get(ids)), list(await broker.counts(QUEUES))

        (ours, our_counts), (theirs, their_counts) = self._both(look)
        self._known = {info.id: info for info in theirs if info is not None}
        for job_id, tested, reference in zip(ids, ours, theirs, strict=True):
            self._same(
                f"job {job_id}", tested and _info_view(tested), reference and _info_view(reference)
            )
        self._same("counts", _counts_view(our_counts), _counts_view(their_counts))

    # -- tools ------------------------------------------------------------------------------------

    def _both(self, call: Callable[[BaseBroker], Awaitable[T]]) -> tuple[T, T]:
        async def run() -> tuple[T, T]:
            return await call(self._tested), await call(self._reference)

        self._clock.look()
        began = time.monotonic()
        answers = self.portal.call(run)
        if self._clock.beside_another and (took := time.monotonic() - began) > SLOW:
            type(self).slow = True
            if took > TOO_LONG:
                reject()
        return answers

    def _each(
        self,
        tested: Callable[[BaseBroker], Awaitable[T]],
        reference: Callable[[BaseBroker], Awaitable[T]],
    ) -> tuple[T, T]:
        return self._both(lambda broker: (tested if broker is self._tested else reference)(broker))

    def _same(self, what: str, tested: object, reference: object) -> None:
        assert tested == reference, f"case 77, {what}: {tested!r}; the reference has {reference!r}"

    def _live(self) -> list[_Pair]:
        """Deliveries that still own their job, by the reference."""
        found: list[_Pair] = []
        for pair in self._pairs:
            info = self._known.get(pair.job_id)
            if info is not None and info.status == "running" and info.delivery == pair.number:
                found.append(pair)
        return found

    def _new_job(self, plan: _Plan) -> NewJob:
        if plan.reuse is not None and self._jobs:
            return _chosen(self._jobs, plan.reuse)._replace(check_exists=True)
        number = len(self._jobs) + 1
        job = NewJob(
            id=f"{number:08x}-0000-7000-8000-000000000000",
            queue=plan.queue,
            task=f"task{number % 3}",
            policy=b"policy",
            body=b"b" * plan.size,
            priority=plan.priority,
            delay_ms=plan.delay_ms,
        )
        self._jobs.append(job)
        return job

    def _send(self, batch: _Batch) -> None:
        tested, reference = self._both(
            lambda broker: broker.enqueue(
                batch.jobs, producer=batch.producer, numbers=batch.numbers
            )
        )
        self._same("enqueue", [item.status for item in tested], [item.status for item in reference])

    def _claim(self, worker: str, limit: int, queues: Sequence[str], **options: Any) -> None:
        tested, reference = self._both(
            lambda broker: broker.claim(queues, limit, worker=worker, lease_ms=LEASE_MS, **options)
        )
        self._same(
            "claim",
            [_delivery_view(item) for item in tested.jobs],
            [_delivery_view(item) for item in reference.jobs],
        )
        self._pairs += [
            _Pair(ours.id, ours.number, ours.token, theirs.token)
            for ours, theirs in zip(tested.jobs, reference.jobs, strict=True)
        ]
        due, wanted = tested.due_in_ms, reference.due_in_ms
        same = due == wanted or (due and wanted and abs(due - wanted) < GRID_MS // 2)
        assert same, f"case 77, claim: due_in_ms is {due}, the reference has {wanted}"

    def _settle(self, pairs: Sequence[_Pair], chosen: Sequence[_End]) -> None:
        batch: dict[_Pair, _End] = {}
        for end in chosen:
            pair = _chosen(pairs, end.which)
            batch.setdefault(pair.forged() if end.forged else pair, end)
        ours = [_settlement(pair.tested, end) for pair, end in batch.items()]
        theirs = [_settlement(pair.reference, end) for pair, end in batch.items()]
        tested, reference = self._each(
            lambda broker: broker.settle(ours), lambda broker: broker.settle(theirs)
        )
        self._same("settle", list(tested), list(reference))

    def _renew(self, pairs: Sequence[_Pair]) -> None:
        ours = [pair.tested for pair in pairs]
        theirs = [pair.reference for pair in pairs]
        tested, reference = self._each(
            lambda broker: broker.renew(ours, LEASE_MS),
            lambda broker: broker.renew(theirs, LEASE_MS),
        )
        self._same(
            "renew, lost",
            [token in tested.lost for token in ours],
            [token in reference.lost for token in theirs],
        )
        self._same(
            "renew, cancelled",
            [token in tested.cancelled for token in ours],
            [token in reference.cancelled for token in theirs],
        )

    def _lapse(self, spared: Sequence[int]) -> None:
        """A lease's time passes under a working store; the spared go on renewing."""
        living = list({_chosen(self._live(), which): None for which in spared})
        for _ in range(4):
            if living:
                self._renew(living)
            self._upkeep()
            self._clock.advance(GRID_MS)
        self._upkeep()

    def _upkeep(self) -> None:
        tested, reference = self._both(
            lambda broker: broker.upkeep(QUEUES, lease_ms=LEASE_MS, budget=500)
        )
        self._same("upkeep", tested, reference)


def _chosen(items: Sequence[T], which: int) -> T:
    return items[which % len(items)]


def _forge(token: Token) -> Token:
    try:
        return Fence.unpack(token)._replace(worker=STRANGER).pack()
    except struct.error:
        return b"not a token of this broker"


def _settlement(token: Token, end: _End) -> Settlement:
    result = end.result if end.kind == "completed" else None
    content_type = None if result is None else "text/plain"
    return Settlement(token, end.kind, end.delay_ms, result, content_type, None, end.note)


def _delivery_view(item: Delivery) -> dict[str, object]:
    hidden = ("token", "enqueued_ms", "due_ms", "claimed_ms")
    return {name: value for name, value in item._asdict().items() if name not in hidden}


def _info_view(info: JobInfo) -> dict[str, object]:
    view: dict[str, Any] = info._asdict()
    # To the grid: a store on its own clock drifts by as long as the steps take.
    view["run_after_grid"] = round((info.run_at_ms - info.enqueued_ms) / GRID_MS)
    for name in ("started_ms", "completed_ms"):
        view[name] = view[name] is not None
    del view["enqueued_ms"], view["run_at_ms"]
    return view


def _counts_view(counts: Sequence[QueueStats]) -> list[QueueStats]:
    """Without ages, which need not agree to the millisecond, but with whether there is one."""
    return [
        stats._replace(oldest_due=None if stats.oldest_due is None else 0.0) for stats in counts
    ]


def check_model(
    open_broker: OpenBroker,
    *,
    backend: str = "asyncio",
    examples: int | None = None,
    steps: int = 40,
    repeatable: bool = False,
    shrink: bool = True,
) -> None:
    """Compare a broker with the reference under random operations.

    Args:
        open_broker: gives the broker, open and empty, on the clock it is handed.
        backend: event loop of anyio to run it on.
        examples: how many sequences; None takes ``AIOQ_CONFORMANCE_EXAMPLES``, else 60.
        steps: longest sequence.
        repeatable: the same sequences in every run.
        shrink: look for the shortest sequence that fails.

    Raises:
        AssertionError: they differ; Hypothesis prints the calls that show it.
    """
    phases = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
    told = settings(
        max_examples=examples or int(os.environ.get("AIOQ_CONFORMANCE_EXAMPLES", "60")),
        stateful_step_count=steps,
        deadline=None,
        derandomize=repeatable,
        database=None,
        phases=phases if shrink else phases[:3],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    with start_blocking_portal(backend) as portal:
        fields = {"open_broker": staticmethod(open_broker), "portal": portal}
        for more in reversed(range(TRIES)):
            machine = type("MachineUnderTest", (BrokerMachine,), fields)
            try:
                run_state_machine_as_test(machine, settings=told)
            except Exception:
                # it may have failed by that alone; and what is given up only once, Hypothesis
                # takes for flaky
                if not (cast("type[BrokerMachine]", machine).slow and more):
                    raise
            else:
                return


class ModelSuite:
    """Case 77; a subclass gives the fixture ``open_broker``.

    It returns a function that takes a ``FakeClock`` and gives an async context manager of an open,
    empty broker whose store goes by that clock.
    """

    @pytest.fixture
    def open_broker(self) -> Any:
        """See ``OpenBroker``."""
        pytest.fail(f"{type(self).__name__} must give a fixture 'open_broker'")

    @covers(77)
    def test_random_operations(self, open_broker: OpenBroker) -> None:
        check_model(open_broker)
