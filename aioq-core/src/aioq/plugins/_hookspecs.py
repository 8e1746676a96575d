"""The plugin manual: every hook, when it is called, how often, and what an empty answer means.

A plugin is a module (or any object) with functions marked ``@hookimpl``, named in the entry-point
group ``aioq`` of its distribution::

    [project.entry-points.aioq]
    mine = "my_package._plugin"

The module must be light: it may not import a driver, only say how to load one. Hooks are called
while an app is put together, never per job. An implementation may take fewer arguments than its
spec, so specs can grow.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import click
    from structlog.typing import Processor

    from aioq._app import Aarq
    from aioq._broker import BaseBroker
    from aioq._serializer import Serializer
    from aioq.middleware import Middleware

__all__ = ["SPI", "BrokerSpec", "SerializerSpec", "hookimpl"]

PROJECT: Final = "aioq"
SPI: Final = 1
"""Number of the broker contract; a broker built for another one is refused by name."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerSpec:
    """Announces a broker without importing it.

    Args:
        name: the class name, as ``from aioq.backends import <name>`` finds it.
        schemes: URL schemes it serves, ``("redis", "rediss")``.
        load: imports the driver and returns the class; it is called with the URL as its first
            argument for ``Aarq("scheme://...")``.
        spi: the contract number it was written for.
    """

    name: str
    schemes: tuple[str, ...]
    load: "Callable[[], type[BaseBroker]]"
    spi: int = SPI


@dataclass(frozen=True, kw_only=True, slots=True)
class SerializerSpec:
    """Announces a serializer.

    Args:
        name: what ``Aarq(serializer=<name>)`` takes.
        load: returns the class; it is called without arguments.
    """

    name: str
    load: "Callable[[], type[Serializer]]"


@hookspec
def aioq_brokers() -> "Iterable[BrokerSpec]":  # type: ignore[empty-body]
    """Brokers this plugin brings.

    Called once, the first time any broker is asked for by name or URL. An empty answer means none.
    """


@hookspec
def aioq_serializers() -> "Iterable[SerializerSpec]":  # type: ignore[empty-body]
    """Serializers this plugin brings.

    Called once, when the first app is put together. An empty answer means none.
    """


@hookspec
def aioq_middlewares(app: "Aarq") -> "Iterable[Middleware]":  # type: ignore[empty-body]
    """Middleware to add to ``app``.

    Called once per app, when it is frozen (its first enqueue, or the worker's start), after
    ``aioq_configure``. Where each lands in the chain is decided by its ``order``. An empty answer
    means none.
    """


@hookspec
def aioq_commands() -> "Iterable[click.Command]":  # type: ignore[empty-body]
    """Commands for the ``aioq`` command line.

    Called once per run of the command line. An empty answer means none. In a command,
    ``click.get_current_context().obj.choose_app(app, url, namespace)`` is the app that the user's
    ``APP``, or ``--broker URL`` and ``--namespace``, means; with None for app and URL, the one that
    ``AIOQ_BROKER_URL`` names.
    """


@hookspec
def aioq_log_processors() -> "Iterable[Processor]":  # type: ignore[empty-body]
    """Processors of structlog that add to the log lines of the worker's process.

    Called once, when ``aioq worker`` sets up logging. They see a line in the task and thread that
    wrote it, before it is rendered. An empty answer means none.
    """


@hookspec
def aioq_configure(app: "Aarq") -> None:
    """Look at, or change, ``app`` before it is frozen; may call ``app.use(...)``.

    Called once per app, before ``aioq_middlewares``.
    """
