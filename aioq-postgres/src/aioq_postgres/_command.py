"""``aioq migrate``: create the tables, or bring them up to date."""

import asyncio
from typing import TYPE_CHECKING

import click

from aioq import Aarq
from aioq.errors import ConfigurationError

if TYPE_CHECKING:
    from aioq_postgres import PostgresBroker

__all__ = ["migrate"]


@click.command(
    "migrate",
    short_help="Create or update the tables of a PostgreSQL store.",
    epilog="\b\nExample:\n  aioq migrate tasks:app",
)
@click.argument("app_path", metavar="[APP]", required=False)
@click.option(
    "--broker", "url", metavar="URL", help="The store, instead of APP. [env: AIOQ_BROKER_URL]"
)
@click.option(
    "--namespace",
    metavar="NAME",
    help="The part of the store, with --broker. [env: AIOQ_NAMESPACE]",
)
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when steps are missing.")
@click.option("--sql", is_flag=True, help="Change nothing; print the missing steps as SQL.")
@click.pass_context
def migrate(
    context: click.Context,
    app_path: str | None,
    url: str | None,
    namespace: str | None,
    check: bool,
    sql: bool,
) -> int:
    """Create the tables, or bring them up to date; safe to run again, and by many at once.

    Each namespace has tables of its own.

    Workers may go on: a step only adds, and what older code needs is removed one release later.
    """
    broker = _broker(context.obj.choose_app(app_path, url, namespace))
    if sql:
        click.echo(asyncio.run(broker.migration_script()), nl=False)
        return 0
    if check:
        steps = asyncio.run(broker.missing_migrations())
        for step in steps:
            click.echo(f"missing: {step}")
        if not steps:
            click.echo(f"{broker.url} is up to date")
        return 1 if steps else 0
    applied = asyncio.run(broker.migrate())
    for step in applied:
        click.echo(f"applied: {step}")
    click.echo(f"{broker.url} is up to date")
    return 0


def _broker(app: Aarq) -> "PostgresBroker":
    from aioq_postgres import PostgresBroker

    broker = app.broker
    if not isinstance(broker, PostgresBroker):
        raise ConfigurationError(f"{broker.url} needs no migration: it is not a PostgreSQL store")
    return broker
