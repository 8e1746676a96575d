"""What commands on a store have in common: which store, and doing something there."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click

from aioq._app import NAMESPACE, Aarq
from aioq._brokers import BROKER_URL
from aioq._records import Status
from aioq.cli._apps import connected, has_module
from aioq.cli._root import Commands
from aioq.plugins import BaseBroker

__all__ = ["Listing", "json_option", "status_option", "store_options", "with_broker"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_broker = click.option(
    "--broker", "url", metavar="URL", help=f"The store, instead of APP. [env: {BROKER_URL}]"
)
_namespace = click.option(
    "--namespace", metavar="NAME", help=f"The part of the store. [env: {NAMESPACE}]"
)
json_option = click.option("--json", "json", is_flag=True, help="Machine output.")


def store_options(function: F) -> F:
    """The options ``--broker`` and ``--namespace``, passed as ``url`` and ``namespace``."""
    return _broker(_namespace(function))


class Listing(Commands):
    """A group whose command ``list`` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in ctx.help_option_names and self._is_no_command(ctx, args[0])):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def _is_no_command(self, ctx: click.Context, word: str) -> bool:
        """Whether it is an option, an app, or a module that may hold one."""
        return (
            word.startswith("-")
            or ":" in word
            or (self.get_command(ctx, word) is None and has_module(word))
        )


def with_broker(app: Aarq, use: Callable[[BaseBroker], Awaitable[T]]) -> T:
    """Do something with the app's open broker, in an event loop of its own."""

    async def run() -> T:
        async with connected(app) as broker:
            return await use(broker)

    return asyncio.run(run())


def status_option(offered: Sequence[Status]) -> Callable[[F], F]:
    """The option ``--status``, which may be repeated, passed as ``statuses``."""
    return click.option(
        "-s",
        "--status",
        "statuses",
        type=click.Choice(offered),
        multiple=True,
        metavar="STATUS",
        help=f"Only this status; may be repeated: {', '.join(offered)}.",
    )
