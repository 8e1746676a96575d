"""Queues as the command line shows them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aioq._app import Aarq
from aioq._records import STATUSES, QueueStats
from aioq.cli._durations import age
from aioq.cli._output import table
from aioq.errors import NotSupported
from aioq.plugins import BaseBroker

__all__ = ["Queue", "as_record", "as_table", "declared", "read_queues"]


class Queue(NamedTuple):
    """A queue, and how many workers serve it; None where the broker has no registry."""

    stats: QueueStats
    workers: int | None

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.stats.queue


def declared(app: Aarq) -> set[str]:
    """The queues of the app's tasks; none of an app that stands for a URL."""
    return {task.queue for task in app.tasks.values()}


async def read_queues(broker: BaseBroker, declared: Iterable[str]) -> list[Queue]:
    """All queues that the store knows, an app declares or a worker serves, ordered by name."""
    try:
        served = [name for worker in await broker.workers() for name in set(worker.queues)]
    except NotSupported:
        served = None
    known = {stats.queue: stats for stats in await broker.counts()}
    for name in {*declared, *(served or ())}:
        known.setdefault(name, QueueStats(name))
    return [
        Queue(known[name], None if served is None else served.count(name)) for name in sorted(known)
    ]


def as_record(queue: Queue) -> dict[str, Any]:
    """All that is known of the queue, for JSON; ``oldest_due`` is in seconds."""
    stats = queue.stats
    return {
        "name": stats.queue,
        "paused": stats.paused,
        "workers": queue.workers,
        **{status: getattr(stats, status) for status in STATUSES},
        "quarantined": stats.quarantined,
        "oldest_due": stats.oldest_due,
    }


def as_table(queues: Sequence[Queue]) -> str:
    """Queues for people, one a line."""
    head = (
        *("QUEUE", "PENDING", "DELAYED", "RUNNING", "DONE", "FAILED", "DEAD", "OLDEST"),
        *("WORKERS", "STATE"),
    )
    rows = [
        (
            stats.queue,
            str(stats.pending),
            str(stats.scheduled + stats.retrying),
            str(stats.running),
            str(stats.completed),
            str(stats.failed),
            str(stats.dead),
            age(stats.oldest_due),
            {None: "?", 0: "NONE"}.get(workers, str(workers)),
            "paused" if stats.paused else "-",
        )
        for stats, workers in queues
    ]
    return table(head, rows)
