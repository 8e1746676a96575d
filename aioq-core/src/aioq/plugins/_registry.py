"""The only place that touches pluggy: finds plugins, names the broken ones, answers by name."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from aioq.errors import PluginError
from aioq.plugins import _builtin, _hookspecs
from aioq.plugins._hookspecs import PROJECT, SPI, BrokerSpec, SerializerSpec

if TYPE_CHECKING:
    import click
    from structlog.typing import Processor

    from aioq._app import Aarq
    from aioq.middleware import Middleware

__all__ = ["Plugin", "Registry", "registry"]

GROUP = "aioq"
DISABLE = "AIOQ_DISABLE_PLUGINS"
Spec = TypeVar("Spec", BrokerSpec, SerializerSpec)


@dataclass(frozen=True, slots=True)
class Plugin:
    """What was found: for ``aioq plugins`` and for messages."""

    name: str
    distribution: str
    version: str
    state: str
    """``loaded``, ``disabled``, or why it is broken."""


class Registry:
    """All plugins of one set of entry points.

    Args:
        external: whether to read the entry points; core's own plugin is always there.
        found: entry points to read instead of the installed ones (tests).
    """

    def __init__(self, *, external: bool = True, found: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(_hookspecs)
        self._manager.register(_builtin, "builtin")
        self.plugins: list[Plugin] = []
        self._brokers: dict[str, BrokerSpec] | None = None
        self._serializers: dict[str, SerializerSpec] | None = None
        if external:
            self._load(entry_points(group=GROUP) if found is None else found)

    def _load(self, found: Iterable[EntryPoint]) -> None:
        disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
        owners = {"builtin": "aioq-core"}
        for point in sorted(found, key=lambda point: point.name):
            owner = point.dist.name if point.dist else "?"
            if point.name in disabled:
                self._list(point, owner, "disabled")
                continue
            if owners.setdefault(point.name, owner) != owner:
                raise PluginError(
                    f"two distributions bring an aioq plugin named {point.name!r}: "
                    f"{owners[point.name]} and {owner}; uninstall one, or set "
                    f"{DISABLE}={point.name}"
                )
            if not any(plugin.name == point.name for plugin in self.plugins):
                self._list(point, owner, self._register(point, owner))

    def _list(self, point: EntryPoint, owner: str, state: str) -> None:
        version = point.dist.version if point.dist else "?"
        self.plugins.append(Plugin(point.name, owner, version, state))

    def _register(self, point: EntryPoint, owner: str) -> str:
        try:
            self.add(point.load(), point.name)
        except Exception as exc:
            state = f"broken: {type(exc).__name__}: {exc}"
            warnings.warn(
                f"aioq plugin {point.name!r} of {owner} is not used, it is {state}",
                RuntimeWarning,
                stacklevel=2,
            )
            return state
        return "loaded"

    def add(self, plugin: object, name: str | None = None) -> None:
        """Register a plugin object (a module, or any object with hook functions).

        Raises:
            PluginError: it implements a hook that does not exist, or asks for unknown arguments.
        """
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as exc:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise PluginError(f"plugin {name or plugin!r}: {exc}") from exc

    def brokers(self) -> dict[str, BrokerSpec]:
        """Announced brokers by class name.

        Raises:
            PluginError: two plugins announce the same name or scheme, or one breaks.
        """
        if self._brokers is None:
            self._brokers = self._collect("aioq_brokers", "broker")
            schemes: dict[str, str] = {}
            for spec in self._brokers.values():
                for scheme in spec.schemes:
                    if (other := schemes.setdefault(scheme, spec.name)) != spec.name:
                        raise PluginError(
                            f"{other} and {spec.name} both serve {scheme}:// URLs; set "
                            f"{DISABLE} to the plugin you do not want"
                        )
        return self._brokers

    def serializers(self) -> dict[str, SerializerSpec]:
        """Announced serializers by name.

        Raises:
            PluginError: two plugins announce the same name, or one breaks.
        """
        if self._serializers is None:
            self._serializers = self._collect("aioq_serializers", "serializer")
        return self._serializers

    def middlewares(self, app: "Aarq") -> "list[Middleware]":
        """What plugins add to ``app``, in the order in which they are registered."""
        return self._call("aioq_middlewares", app=app)

    def commands(self) -> "list[click.Command]":
        """Commands for the command line."""
        return self._call("aioq_commands")

    def log_processors(self) -> "list[Processor]":
        """What plugins add to log lines."""
        return self._call("aioq_log_processors")

    def configure(self, app: "Aarq") -> None:
        """Let plugins change ``app`` before it is frozen."""
        self._call("aioq_configure", bring=False, app=app)

    def _call(self, hook: str, *, bring: bool = True, **arguments: Any) -> list[Any]:
        """What the plugins bring, if anything, one plugin at a time: one that breaks is named and
        left out."""
        answers: list[Any] = []
        caller = getattr(self._manager.hook, hook)
        for implementation in caller.get_hookimpls():
            name = implementation.plugin_name
            alone = self._manager.subset_hook_caller(
                hook,
                [plugin for other, plugin in self._manager.list_name_plugin() if other != name],
            )
            try:
                told = alone(**arguments)
                answers += [item for answer in told for item in answer] if bring else ()
            except Exception as exc:
                warnings.warn(
                    f"aioq plugin {name!r} broke in {hook} and is left out: "
                    f"{type(exc).__name__}: {exc}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return answers

    def _collect(self, hook: str, kind: str) -> dict[str, Spec]:
        specs: dict[str, Spec] = {}
        for spec in cast("list[Spec]", self._call(hook)):
            if spec.name in specs:
                raise PluginError(
                    f"two plugins announce a {kind} named {spec.name!r} "
                    f"({_origin(specs[spec.name])} and {_origin(spec)}); set {DISABLE} to the "
                    f"one you do not want"
                )
            specs[spec.name] = spec
        return specs

    def load_broker(self, spec: BrokerSpec) -> Any:
        """The broker's class.

        Raises:
            PluginError: it was written for another contract, or cannot be imported.
        """
        if spec.spi != SPI:
            older = "aioq-core" if spec.spi > SPI else _origin(spec)
            raise PluginError(
                f"{spec.name} was written for broker contract {spec.spi}, this aioq-core has "
                f"{SPI}: upgrade {older}"
            )
        try:
            return spec.load()
        except ImportError as exc:
            raise PluginError(f"{spec.name} cannot be imported: {exc}") from exc


def _origin(spec: BrokerSpec | SerializerSpec) -> str:
    module: str | ModuleType = getattr(spec.load, "__module__", "?")
    return str(module).partition(".")[0]


def registry(external: bool = True) -> Registry:
    """The plugins of this process, read on first use.

    Args:
        external: False leaves out everything but core's own parts (``Aarq(plugins=False)``).
    """
    return _registry(external)


@cache
def _registry(external: bool) -> Registry:
    return Registry(external=external)
