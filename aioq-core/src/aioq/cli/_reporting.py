"""Telling somebody outside how a worker stands, also while its event loop is blocked."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from aioq.worker import Worker
from aioq.worker._health import HealthReport

__all__ = ["reporting", "status_line"]

WHILE_STARTING = 0.05
LONGEST_JOIN = 2.0


@contextmanager
def reporting(
    worker: Worker, tell: Callable[[HealthReport], None], every: float
) -> Generator[None, None, None]:
    """Tell how the worker stands: now, when it has started, every so many seconds from then on, and
    once more at the end."""
    over = threading.Event()

    def run() -> None:
        status = worker.health().status
        while not over.wait(WHILE_STARTING if status == "starting" else every):
            report = worker.health()
            if report.status != "starting":
                tell(report)
            status = report.status

    tell(worker.health())
    thread = threading.Thread(target=run, name="aioq-reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LONGEST_JOIN)
        tell(worker.health())


def status_line(worker: Worker, report: HealthReport) -> str:
    """How a worker stands, for people."""
    loops: dict[str, dict[str, object]] = report.details.get("loops", {})
    if report.status == "failing":
        names = ", ".join(name for name, loop in loops.items() if not loop["ok"])
        return f"failing: {names}"
    info = worker.describe()
    return f"{report.status}: {info.running} of {info.concurrency} slots busy"
