"""Deleting many jobs: counted first, then asked for, then done in small steps."""

import sys
from collections.abc import Callable, Sequence

import click

from aioq._records import MAX_BATCH, Filter
from aioq.cli._output import count_of, note, print_json
from aioq.plugins import BaseBroker

__all__ = ["confirm", "delete_matching"]


def confirm(question: str) -> None:
    """Ask at the terminal whether to delete.

    Raises:
        ClickException: there is none, or the answer is not yes; nothing may be deleted then.
    """
    _check_terminal()
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        click.echo(err=True)
    raise click.ClickException("nothing was deleted: answer y, or add --yes")


def _check_terminal() -> None:
    if not sys.stdin.isatty():
        raise click.ClickException("nothing was deleted: stdin is no terminal to ask at, add --yes")


async def delete_matching(
    broker: BaseBroker, filters: Sequence[Filter], *, yes: bool, dry_run: bool, json: bool
) -> None:
    """Delete what the filters mean and does not run, and tell how many; or only tell.

    Raises:
        ClickException: it was not confirmed.
    """
    if not yes and not dry_run:
        _check_terminal()
    matching = sum([await broker.count_where(where) for where in filters])
    deleted = 0
    if matching and not dry_run:
        if not yes:
            confirm(f"Delete {count_of(matching, 'job')} at {broker.url}?")
        deleted = await _delete_with_bar(broker, filters, matching)
    if json:
        print_json({"matching": matching, "deleted": deleted})
    elif not matching:
        note("no job matches")
    elif dry_run:
        click.echo(f"would delete {count_of(matching, 'job')}")
    else:
        click.echo(f"deleted {count_of(deleted, 'job')}")


async def _delete_with_bar(broker: BaseBroker, filters: Sequence[Filter], expected: int) -> int:
    if not sys.stderr.isatty():
        return await _delete(broker, filters, lambda _: None)
    with click.progressbar(
        length=expected, label="deleting", show_pos=True, file=sys.stderr
    ) as bar:
        return await _delete(broker, filters, bar.update)


async def _delete(
    broker: BaseBroker, filters: Sequence[Filter], tell: Callable[[int], None]
) -> int:
    total = 0
    for where in filters:
        # in small batches, so that whoever works in the store meanwhile hardly waits
        while deleted := await broker.delete_where(where, MAX_BATCH):
            total += deleted
            tell(deleted)
    return total
