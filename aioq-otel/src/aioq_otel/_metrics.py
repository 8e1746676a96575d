"""The instruments, one set per meter provider."""

import threading
from collections import Counter as Count
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from aioq_otel import _names as names
from aioq_otel._queues import Snapshot
from aioq_otel._tally import Attributes, Tally

__all__ = ["Instruments", "instruments"]

DURATIONS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(30, 60, 300, 900, 3600),
)
"""The buckets of the conventions, and more above: jobs last longer than requests."""
WAITS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Instruments:
    """All metrics of aioq; gauges and counters of what happens to each job read what is kept here.

    Attributes:
        active: running attempts by worker id.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter(names.SCOPE, version("aioq-otel"), schema_url=names.SCHEMA_URL)
        self.sent = Tally()
        meter.create_observable_counter(
            names.SENT,
            [self.sent.observe],
            unit="{message}",
            description="Jobs that were tried to enqueue.",
        )
        self.operation = meter.create_histogram(
            names.OPERATION_DURATION,
            unit="s",
            description="How long the store took to accept jobs.",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        self.consumed = Tally()
        meter.create_observable_counter(
            names.CONSUMED,
            [self.consumed.observe],
            unit="{message}",
            description="Attempts that were begun.",
        )
        self.process = meter.create_histogram(
            names.PROCESS_DURATION,
            unit="s",
            description="How long attempts ran.",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        self.wait = meter.create_histogram(
            names.JOB_WAIT_TIME,
            unit="s",
            description="From due to handed out, by the store's clock.",
            explicit_bucket_boundaries_advisory=WAITS,
        )
        self.lost = meter.create_counter(
            names.LOST,
            unit="{job}",
            description="Attempts whose lease ran out: the worker died or was cut off.",
        )
        meter.create_observable_up_down_counter(
            names.ACTIVE_JOBS,
            [self._observe_active],
            unit="{job}",
            description="Attempts that run now.",
        )
        meter.create_observable_up_down_counter(
            names.CONCURRENCY,
            [self._observe_concurrency],
            unit="{job}",
            description="Attempts that may run at a time.",
        )
        meter.create_observable_gauge(
            names.QUEUE_JOBS,
            [self._observe_jobs],
            unit="{job}",
            description="Jobs by state; a fact of the store, so take the max, never the sum.",
        )
        meter.create_observable_gauge(
            names.OLDEST_AGE,
            [self._observe_age],
            unit="s",
            description="For how long the oldest due job has been waiting; 0 when none is.",
        )
        self.active = Count[str]()
        self._lock = threading.Lock()
        self._workers: dict[str, tuple[Attributes, int]] = {}
        self._snapshots: list[Snapshot] = []

    def worker_starts(self, worker_id: str, queues: Sequence[str], concurrency: int) -> None:
        base = {names.MESSAGING_SYSTEM: names.SYSTEM}
        if len(queues) == 1:
            base[names.DESTINATION] = queues[0]
        with self._lock:
            self._workers[worker_id] = (base, concurrency)

    def worker_stops(self, worker_id: str) -> None:
        with self._lock:
            self._workers.pop(worker_id, None)
            self.active.pop(worker_id, None)

    def watch(self, snapshot: Snapshot) -> None:
        """Report what lies in ``snapshot`` from now on."""
        with self._lock:
            self._snapshots.append(snapshot)

    def unwatch(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._snapshots.remove(snapshot)

    # -- called by readers, in threads of theirs ---------------------------------------------------

    def _observe_active(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            workers = dict(self._workers)
        return _sums((base, self.active[worker]) for worker, (base, _) in workers.items())

    def _observe_concurrency(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            workers = list(self._workers.values())
        return _sums(workers)

    def _observe_jobs(self, _: CallbackOptions) -> Iterator[Observation]:
        for snapshot in self._watched():
            for queue in snapshot.read():
                base = {**snapshot.attributes, names.DESTINATION: queue.queue}
                for state, count in (
                    ("ready", queue.pending),
                    ("scheduled", queue.scheduled + queue.retrying),
                    ("running", queue.running),
                    ("dead", queue.dead),
                ):
                    yield Observation(count, {**base, names.STATE: state})

    def _observe_age(self, _: CallbackOptions) -> Iterator[Observation]:
        for snapshot in self._watched():
            for queue in snapshot.read():
                base = {**snapshot.attributes, names.DESTINATION: queue.queue}
                yield Observation(queue.oldest_due or 0.0, base)

    def _watched(self) -> list[Snapshot]:
        with self._lock:
            return list(self._snapshots)


def _sums(parts: Iterable[tuple[Attributes, int]]) -> list[Observation]:
    """One observation for each set of attributes."""
    totals: dict[tuple[tuple[str, str | int], ...], int] = {}
    for attributes, count in parts:
        key = tuple(attributes.items())
        totals[key] = totals.get(key, 0) + count
    return [Observation(count, dict(key)) for key, count in totals.items()]


@lru_cache(maxsize=16)
def instruments(provider: MeterProvider | None) -> Instruments:
    """Those of ``provider``, or of the global one, which may be set later: the apps of a process
    share them."""
    return Instruments(metrics.get_meter_provider() if provider is None else provider)
