"""The root command: finds the commands of core and of plugins, each imported when it is used."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from aioq._app import Aarq
from aioq._describe import did_you_mean
from aioq.cli._apps import choose_app
from aioq.cli._output import one_line
from aioq.plugins._registry import registry

__all__ = ["Session", "root", "sentence"]

BUILT_IN = ("enqueue", "jobs", "plugins", "prune", "queues", "worker", "workers")
"""Each is the ``command`` of ``aioq.cli.<name>``."""
BROUGHT = "aioq.cli.commands"


@dataclass(slots=True)
class Session:
    """What a run of the command line was told about itself; click's ``obj``."""

    verbose: bool = False
    """Show the traceback of an error as well."""

    def choose_app(self, path: str | None, url: str | None, namespace: str | None = None) -> Aarq:
        """The app that ``APP``, or ``--broker`` and ``--namespace``, means; for plugins' commands.

        Without a path or URL the environment variable ``AIOQ_BROKER_URL`` names the store.

        Raises:
            UsageError: both were given, or nothing.
            ConfigurationError: the app is not there, or nothing serves the URL.
        """
        return choose_app(path, url, namespace)


class Commands(click.Group):
    """A group that names the nearest command when asked for one it has not."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            hint = did_you_mean(name, known, f"commands: {', '.join(known)}")
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class Root(Commands):
    """Core's commands by name; plugins are asked only when core has none of that name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*BUILT_IN, *_brought(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in BUILT_IN:
            command: click.Command = import_module(f"aioq.cli.{cmd_name}").command
            return command
        return _brought(ctx).get(cmd_name)


def _brought(ctx: click.Context) -> dict[str, click.Command]:
    """Commands of plugins, asked for once a run."""
    if BROUGHT not in ctx.meta:
        ctx.meta[BROUGHT] = _by_name(registry().commands())
    brought: dict[str, click.Command] = ctx.meta[BROUGHT]
    return brought


def _by_name(commands: Iterable[click.Command]) -> dict[str, click.Command]:
    named: dict[str, click.Command] = {}
    for command in commands:
        name = command.name or "?"
        if name in BUILT_IN or name in named:
            owner = "aioq" if name in BUILT_IN else _origin(named[name])
            warnings.warn(
                f"the command {name!r} of {_origin(command)} is not used: {owner} has one of "
                f"this name",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            named[name] = command
    return named


def _origin(command: click.Command) -> str:
    return str(getattr(command.callback, "__module__", "a plugin"))


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="\b\nExample:\n  aioq worker tasks:app\n  aioq enqueue tasks:app compute 5",
)
@click.version_option(version("aioq-core"), prog_name="aioq", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error, too.")
@click.pass_context
def root(context: click.Context, verbose: bool) -> None:
    """A job queue that never loses a job.

    APP is where the app is found: tasks:app is the variable app in tasks.py; tasks alone is enough
    when the module holds one app.
    """
    context.ensure_object(Session).verbose = verbose
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def sentence(exc: click.ClickException) -> str:
    """The message of click as one sentence that ends in where to read more."""
    text = one_line(exc.format_message()).removesuffix(".")
    if text[:1].isupper() and not text[1:2].isupper():
        text = text[0].lower() + text[1:]
    if isinstance(exc, click.NoSuchOption) and re.match(r"-\d", exc.option_name):
        text += "; put -- before arguments that begin with a minus"
    context: Any = getattr(exc, "ctx", None)
    return f"{text} (see '{context.command_path} --help')" if context else text
