"""Benchmarks: aioq beside the raw store, interleaved in one run, medians and ratios.

    nox -s bench                      # everything
    nox -s bench -- --jobs 5000 --rounds 3 --json bench.json

The stable figure is the ratio: both sides ran on the same machine within the same minute.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import otel
import postgres
import raw_sqlite
import redis_broker
from drain import Drained, drain, quiet

from aioq.backends import MemoryBroker, SQLiteBroker


def memory(jobs: int) -> dict[str, float]:
    """No-op jobs on the memory broker."""
    drained = asyncio.run(drain(MemoryBroker(max_records=jobs), jobs))
    return {"us_per_job": drained.drain_us, "enqueue_us": drained.enqueue_us}


def sqlite(jobs: int, synchronous: str) -> dict[str, float]:
    """No-op jobs on SQLite by one worker process, beside the raw claim and acknowledge."""
    with tempfile.TemporaryDirectory() as folder:
        drained = asyncio.run(_sqlite_worker(Path(folder) / "aioq.db", jobs, synchronous))
        raw = _sqlite_raw(Path(folder) / "raw.db", jobs, synchronous)
    return {
        "jobs_per_second": drained.per_second,
        "raw_per_second": raw,
        "share_of_raw": drained.per_second / raw,
        "worker_cpu_us": drained.cpu_us,
        "enqueue_us": drained.enqueue_us,
    }


async def _sqlite_worker(path: Path, jobs: int, synchronous: str) -> Drained:
    return await drain(SQLiteBroker(path, synchronous=synchronous), jobs)


def _sqlite_raw(path: Path, jobs: int, synchronous: str) -> float:
    asyncio.run(_fill(path, jobs))
    done, seconds = raw_sqlite.drain(path, "default", synchronous)
    if done != jobs:
        raise RuntimeError(f"the raw loop drained {done} of {jobs} jobs")
    return done / seconds


async def _fill(path: Path, jobs: int) -> None:
    from aioq import Aarq, Context

    app = Aarq(SQLiteBroker(path, synchronous="NORMAL"), plugins=False)

    @app.task
    async def noop(ctx: Context) -> None: ...

    async with app:
        await app.enqueue_many([noop.job() for _ in range(jobs)])


CASES: dict[str, Callable[[int], dict[str, float]]] = {
    "memory": memory,
    "sqlite NORMAL": lambda jobs: sqlite(jobs, "NORMAL"),
    "sqlite FULL": lambda jobs: sqlite(jobs, "FULL"),
    "otel": otel.overhead,
    "redis": redis_broker.beside_others,
    "redis producers": redis_broker.producing,
    "redis idle to start": redis_broker.starting,
    "redis memory": redis_broker.memory,
    "postgres": postgres.beside_others,
    "postgres with a million records": postgres.with_records,
    "postgres beside an open transaction": postgres.beside_a_report,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs per case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    quiet()
    chosen = {name: case for name, case in CASES.items() if (arguments.only or "") in name}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for _ in range(arguments.rounds):
        for name, case in chosen.items():
            figures[name].append(case(arguments.jobs))
    report: dict[str, Any] = {name: _summary(rounds) for name, rounds in figures.items()}
    for name, summary in report.items():
        print(name)
        for figure, (median, least, most) in summary.items():
            print(f"  {figure:16} {median:12,.2f}   [{least:,.2f} .. {most:,.2f}]")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2))


def _summary(rounds: list[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    return {
        figure: (
            statistics.median(values := [figures[figure] for figures in rounds]),
            min(values),
            max(values),
        )
        for figure in rounds[0]
    }


if __name__ == "__main__":
    main()
