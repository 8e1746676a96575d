"""``aioq plugins``: what is installed, what it brings, and in which order middleware runs."""

from dataclasses import asdict, dataclass
from importlib.metadata import entry_points, version
from typing import Any

import click

from aioq.cli._apps import load_app
from aioq.cli._output import print_json, table
from aioq.middleware import FunctionMiddleware, Middleware
from aioq.plugins import BrokerSpec, SerializerSpec
from aioq.plugins._registry import GROUP, registry

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class Row:
    """A plugin and what it brings."""

    name: str
    distribution: str
    version: str
    state: str
    brokers: list[str]
    schemes: list[str]
    serializers: list[str]


@click.command(
    "plugins",
    short_help="Show the plugins, and the middleware order of an app.",
    epilog="\b\nExample:\n  aioq plugins tasks:app",
)
@click.argument("app_path", metavar="[APP]", required=False)
@click.option("--json", "json", is_flag=True, help="Machine output.")
def command(app_path: str | None, json: bool) -> None:
    """Show the plugins and what they bring; with APP also its middleware, outermost first.

    AIOQ_DISABLE_PLUGINS=name,name switches plugins off.
    """
    rows = _rows()
    layers = None if app_path is None else load_app(app_path).freeze().layers
    if json:
        answer: dict[str, Any] = {"plugins": [asdict(row) for row in rows]}
        if layers is not None:
            answer["middleware"] = [
                {"order": int(layer.order), "name": _name(layer), "module": _module(layer)}
                for layer in layers
            ]
        print_json(answer)
        return
    click.echo(
        table(
            ("PLUGIN", "DISTRIBUTION", "VERSION", "BRINGS", "STATE"),
            [(row.name, row.distribution, row.version, _brings(row), row.state) for row in rows],
        )
    )
    if layers is not None:
        click.echo()
        click.echo(
            table(
                ("ORDER", "MIDDLEWARE", "MODULE"),
                [(str(int(layer.order)), _name(layer), _module(layer)) for layer in layers],
            )
        )


def _rows() -> list[Row]:
    found = registry()
    modules = {point.name: point.module for point in entry_points(group=GROUP)}
    brokers = list(found.brokers().values())
    serializers = list(found.serializers().values())

    def row(name: str, distribution: str, number: str, state: str, package: str) -> Row:
        own = [spec for spec in brokers if _package(spec) == package]
        return Row(
            name,
            distribution,
            number,
            state,
            [spec.name for spec in own],
            [scheme for spec in own for scheme in spec.schemes],
            [spec.name for spec in serializers if _package(spec) == package],
        )

    return [
        row("builtin", "aioq-core", version("aioq-core"), "loaded", "aioq"),
        *(
            row(
                plugin.name,
                plugin.distribution,
                plugin.version,
                plugin.state,
                modules.get(plugin.name, plugin.name).partition(".")[0],
            )
            for plugin in found.plugins
        ),
    ]


def _package(spec: BrokerSpec | SerializerSpec) -> str:
    return str(getattr(spec.load, "__module__", "?")).partition(".")[0]


def _brings(row: Row) -> str:
    brokers = [*row.brokers, *(f"{scheme}://" for scheme in row.schemes)]
    return ", ".join([*brokers, *(f"serializer {name}" for name in row.serializers)]) or "-"


def _name(layer: Middleware) -> str:
    return repr(layer) if isinstance(layer, FunctionMiddleware) else type(layer).__qualname__


def _module(layer: Middleware) -> str:
    return type(layer).__module__
