"""``aioq queues``: look at queues, and pause, resume or purge them."""

import os
import sys
from collections.abc import Sequence

import click

from aioq._app import Aarq
from aioq._brokers import BROKER_URL
from aioq._describe import did_you_mean
from aioq._records import STATUSES, Filter, Status
from aioq.cli._apps import choose_app
from aioq.cli._deleting import delete_matching
from aioq.cli._output import note, print_json
from aioq.cli._queues import as_record, as_table, declared, read_queues
from aioq.cli._store import Listing, json_option, status_option, store_options, with_broker
from aioq.cli._watch import watch
from aioq.plugins import BaseBroker

__all__ = ["command"]

queues_argument = click.argument("words", metavar="[APP] QUEUE...", nargs=-1, required=True)


@click.group(
    "queues",
    cls=Listing,
    short_help="List, pause, resume or purge queues.",
    epilog="\b\nExample:\n  aioq queues tasks:app --watch",
)
def command() -> None:
    """Look at queues, and pause, resume or purge them.

    Each takes the APP or the --broker URL. Without a command it lists.
    """


@command.command("list", epilog="\b\nExample:\n  aioq queues list tasks:app --watch")
@click.argument("app_path", metavar="[APP]", required=False)
@store_options
@click.option("--watch", "live", is_flag=True, help="Show it anew until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often.",
)
@json_option
def list_(
    app_path: str | None,
    url: str | None,
    namespace: str | None,
    live: bool,
    interval: float,
    json: bool,
) -> None:
    """List queues: jobs by status, the age of the oldest due job, workers.

    DELAYED are scheduled and retrying ones. WORKERS is NONE where nobody serves the queue.
    """
    if live and (json or not sys.stdout.isatty()):
        raise click.UsageError(
            "--watch is for a terminal and without --json: list again and again instead",
            click.get_current_context(),
        )
    app = choose_app(app_path, url, namespace)

    async def show(broker: BaseBroker) -> None:
        queues = await read_queues(broker, declared(app))
        if json:
            print_json({"queues": [as_record(queue) for queue in queues]})
        elif queues:
            click.echo(as_table(queues))
        else:
            note("no queues")

    async def show_live(broker: BaseBroker) -> None:
        async def read() -> str:
            return as_table(await read_queues(broker, declared(app)))

        await watch(f"{broker.url} ({broker.namespace})", read, interval)

    with_broker(app, show_live if live else show)


@command.command(epilog="\b\nExample:\n  aioq queues pause tasks:app mail")
@queues_argument
@store_options
@json_option
def pause(words: tuple[str, ...], url: str | None, namespace: str | None, json: bool) -> None:
    """Stop handing out jobs of these queues; they still take jobs, and those that run go on."""
    _set_paused(words, url, namespace, json, paused=True)


@command.command(epilog="\b\nExample:\n  aioq queues resume tasks:app mail")
@queues_argument
@store_options
@json_option
def resume(words: tuple[str, ...], url: str | None, namespace: str | None, json: bool) -> None:
    """Hand out jobs of these queues again."""
    _set_paused(words, url, namespace, json, paused=False)


@command.command(epilog="\b\nExample:\n  aioq queues purge tasks:app mail -s pending --dry-run")
@queues_argument
@store_options
@status_option(tuple(status for status in STATUSES if status != "running"))
@click.option("--dry-run", is_flag=True, help="Only tell how many it would be.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(
    words: tuple[str, ...],
    url: str | None,
    namespace: str | None,
    statuses: tuple[Status, ...],
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Delete the jobs of these queues, waiting and finished; running ones stay."""
    app, names = _split(words, url, namespace)
    filters = [Filter(name, frozenset(statuses) or None) for name in names]

    async def act(broker: BaseBroker) -> None:
        await _check_known(broker, app, names)
        await delete_matching(broker, filters, yes=yes, dry_run=dry_run, json=json)

    with_broker(app, act)


def _set_paused(
    words: tuple[str, ...], url: str | None, namespace: str | None, json: bool, *, paused: bool
) -> None:
    app, names = _split(words, url, namespace)

    async def act(broker: BaseBroker) -> None:
        await _check_known(broker, app, names)
        for name in names:
            await broker.set_paused(name, paused)
            if not json:
                click.echo(f"{name} {'paused' if paused else 'resumed'}")
        if json:
            print_json({"queues": [{"name": name, "paused": paused} for name in names]})

    with_broker(app, act)


def _split(
    words: tuple[str, ...], url: str | None, namespace: str | None
) -> tuple[Aarq, Sequence[str]]:
    """The app and the queues: the first word is the app, unless a URL names the store."""
    if url is not None or (os.environ.get(BROKER_URL) and ":" not in words[0]):
        return choose_app(None, url, namespace), words
    if len(words) == 1:
        raise click.UsageError(
            f"give the app (or --broker) and the name of a queue, not only {words[0]!r}",
            click.get_current_context(),
        )
    return choose_app(words[0], None, namespace), words[1:]


async def _check_known(broker: BaseBroker, app: Aarq, names: Sequence[str]) -> None:
    known = [queue.stats.queue for queue in await read_queues(broker, declared(app))]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, f"queues: {', '.join(known) or 'none'}")
            raise click.ClickException(f"there is no queue {name!r}{hint}")
