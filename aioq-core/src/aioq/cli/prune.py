"""``aioq prune``: delete old records."""

import click

from aioq._records import FINISHED, STATUSES, Filter, Status
from aioq.cli._apps import choose_app
from aioq.cli._deleting import delete_matching
from aioq.cli._durations import read_duration
from aioq.cli._store import json_option, status_option, store_options, with_broker
from aioq.plugins import BaseBroker

__all__ = ["command"]


@click.command(
    "prune",
    short_help="Delete old records of finished jobs.",
    epilog="\b\nExample:\n  aioq prune tasks:app --older-than 30d --yes",
)
@click.argument("app_path", metavar="[APP]", required=False)
@store_options
@click.option(
    "--older-than",
    callback=read_duration,
    required=True,
    metavar="AGE",
    help="Only what finished so long ago: 90s, 15m, 12h, 30d, 4w.",
)
@status_option(tuple(status for status in STATUSES if status in FINISHED))
@click.option("-q", "--queue", metavar="NAME", help="Only this queue.")
@click.option("-t", "--task", metavar="NAME", help="Only this task, by its full name.")
@click.option("--dry-run", is_flag=True, help="Only tell how many it would be.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def command(
    app_path: str | None,
    url: str | None,
    namespace: str | None,
    older_than: float,
    statuses: tuple[Status, ...],
    queue: str | None,
    task: str | None,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Delete records of finished jobs, saved results included."""
    wanted = frozenset(statuses) or FINISHED
    where = Filter(queue, wanted, task, finished_for_ms=int(older_than * 1000))

    async def act(broker: BaseBroker) -> None:
        await delete_matching(broker, [where], yes=yes, dry_run=dry_run, json=json)

    with_broker(choose_app(app_path, url, namespace), act)
