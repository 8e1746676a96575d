"""The settings of a worker, checked where they are given."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from aioq._options import check_queue
from aioq.errors import InvalidOption

__all__ = ["WorkerOptions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerOptions:
    """How a worker works; all times in seconds.

    Args:
        queues: the queues to serve, in this order; None serves all that the app declares.
        concurrency: how many jobs run at once.
        burst: stop when no job is due and none is running.
        strict: serve the first queue until it is empty, then the next; else they take turns.
        shutdown_timeout: how long a stop waits for running jobs before it gives them back.
        lease: for how long a job stays with a worker that is silent; renewed every third of it.
        stall_limit: after so long a block of the event loop leases are no longer renewed; None
            renews for ever.
        on_lease_lost: what to do with a running job that another worker has taken over: ``cancel``
            it or ``continue``; its outcome is refused by the store either way.
        unknown_task_grace: for how long a job that this worker cannot run (unknown task, newer
            format) is handed back for a newer worker before it becomes ``dead``.
        health_port: serve ``/livez`` and ``/readyz`` on this port; None for none.
        health_host: address the health port listens on.

    Raises:
        InvalidOption: a value is out of range.
    """

    queues: tuple[str, ...] | None = None
    concurrency: int = 100
    burst: bool = False
    strict: bool = False
    shutdown_timeout: float = 25.0
    lease: float = 30.0
    stall_limit: float | None = 300.0
    on_lease_lost: Literal["cancel", "continue"] = "cancel"
    unknown_task_grace: float = 600.0
    health_port: int | None = None
    health_host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if self.queues is not None and not self.queues:
            raise InvalidOption("queues must name at least one queue; leave it out to serve all")
        if isinstance(self.queues, str):
            raise InvalidOption(f"queues must be a tuple of names, got {self.queues!r}")
        for queue in self.queues or ():
            check_queue(queue)
        _check("concurrency", self.concurrency, 1, 100_000, whole=True)
        _check("shutdown_timeout", self.shutdown_timeout, 0, 86_400)
        _check("lease", self.lease, 0.2, 86_400)
        if self.stall_limit is not None:
            _check("stall_limit", self.stall_limit, 1, math.inf)
        if self.on_lease_lost not in ("cancel", "continue"):
            raise InvalidOption(
                f"on_lease_lost must be 'cancel' or 'continue', got {self.on_lease_lost!r}"
            )
        _check("unknown_task_grace", self.unknown_task_grace, 0, math.inf)
        if self.health_port is not None:
            _check("health_port", self.health_port, 0, 65_535, whole=True)


def _check(name: str, value: Any, least: float, most: float, *, whole: bool = False) -> None:
    kinds = int if whole else int | float
    if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        top = "" if most == math.inf else f" and at most {most:g}"
        raise InvalidOption(f"{name} must be {kind}, at least {least:g}{top}, got {value!r}")
