"""``opentelemetry-instrument``'s door, and the one switch it shares with the plugin."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from aioq_otel._options import Options

__all__ = ["AioqInstrumentor", "switch"]

DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
KNOWN = frozenset({"tracer_provider", "meter_provider", *Options.__dataclass_fields__})


class Switch:
    """Whether apps are traced, and with which options."""

    def __init__(self) -> None:
        self._off = False
        self.options: Mapping[str, Any] = {}

    def set(self, *, on: bool, options: Mapping[str, Any] | None = None) -> None:
        self._off = not on
        self.options = options or {}

    @property
    def off(self) -> bool:
        return self._off or self._disabled()

    @property
    def uninstrumented(self) -> bool:
        """Asked per job: apps that are in use already fall silent, too."""
        return self._off

    @staticmethod
    def _disabled() -> bool:
        names = {name.strip() for name in os.environ.get(DISABLED, "").split(",")}
        return bool(names & {"aioq", "*"})


switch = Switch()


class AioqInstrumentor:
    """What ``opentelemetry-instrument`` looks for; the plugin traces without it as well.

    It only gives the plugin options and switches it: nothing is ever traced twice.
    """

    def instrument(self, **options: Any) -> None:
        """Trace the apps that are put together from now on.

        Args:
            **options: those of ``TracingMiddleware``; others are ignored.
        """
        switch.set(on=True, options={name: options[name] for name in KNOWN & options.keys()})

    def uninstrument(self, **_: Any) -> None:
        """Trace no app any more, also none that is in use already."""
        switch.set(on=False)

    def instrumentation_dependencies(self) -> Collection[str]:
        """The versions of aioq it knows."""
        return ("aioq-core >= 0.1, < 0.2",)
