"""``aioq workers``: who works."""

import click

from aioq._records import WorkerInfo
from aioq.cli._apps import choose_app
from aioq.cli._durations import age
from aioq.cli._output import note, print_json, table
from aioq.cli._store import json_option, store_options, with_broker
from aioq.plugins import BaseBroker

__all__ = ["command"]


@click.command(
    "workers",
    short_help="List the workers.",
    epilog="\b\nExample:\n  aioq workers tasks:app",
)
@click.argument("app_path", metavar="[APP]", required=False)
@store_options
@json_option
def command(app_path: str | None, url: str | None, namespace: str | None, json: bool) -> None:
    """List the workers that gave a sign of life within the last minute."""

    async def show(broker: BaseBroker) -> None:
        workers = await broker.list_workers()
        if json:
            print_json({"workers": [worker._asdict() for worker in workers]})
        elif workers:
            click.echo(_as_table(list(workers)))
        else:
            note("no workers")

    with_broker(choose_app(app_path, url, namespace), show)


def _as_table(workers: list[WorkerInfo]) -> str:
    head = ("ID", "HOST", "PID", "RUNNING", "UP", "SEEN", "VERSION", "QUEUES")
    rows = [
        (
            worker.id,
            worker.hostname,
            str(worker.pid),
            f"{worker.running}/{worker.concurrency}",
            age(worker.uptime),
            f"{age(worker.seen_ago)} ago",
            worker.version,
            ", ".join(worker.queues),
        )
        for worker in workers
    ]
    return table(head, rows)
