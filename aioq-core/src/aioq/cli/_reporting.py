"""Telling somebody outside how a worker stands, also while its event loop is blocked."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from aioq.worker import Worker

__all__ = ["reporting", "status_line"]

LONGEST_JOIN = 2.0


@contextmanager
def reporting(tell: Callable[[], None], every: float) -> Generator[None, None, None]:
    """Call ``tell`` now, every so many seconds from a thread, and once more at the end."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            tell()

    tell()
    thread = threading.Thread(target=run, name="aioq-reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LONGEST_JOIN)
        tell()


def status_line(worker: Worker) -> str:
    """How a worker stands, for people."""
    report = worker.health()
    loops: dict[str, dict[str, object]] = report.details.get("loops", {})
    if report.status == "failing":
        names = ", ".join(name for name, loop in loops.items() if not loop["ok"])
        return f"failing: {names}"
    info = worker.describe()
    return f"{report.status}: {info.running} of {info.concurrency} slots busy"
