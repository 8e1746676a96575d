"""What the spans and figures of an app are made with."""

from importlib.metadata import version
from time import monotonic
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from aioq import Aarq
from aioq_otel import _names as names
from aioq_otel._metrics import instruments
from aioq_otel._options import Options
from aioq_otel._propagation import Propagation
from aioq_otel._server import server_of
from aioq_otel._tally import Attributes

__all__ = ["Telemetry"]

LOOK_EVERY: Final = 0.1
"""Seconds after which an SDK that was set up late is noticed."""


class Telemetry:
    """Tracer, instruments and propagation, as chosen for one app.

    Args:
        options: as chosen.
        tracer_provider, meter_provider: the global ones by default, which may be set later.
        app: None as long as it is not put together.
    """

    def __init__(
        self,
        options: Options,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        app: Aarq | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._traces = self._measures = False
        self._look_again = 0.0
        self.options = options
        self.tracer = trace.get_tracer(
            names.SCOPE, version("aioq-otel"), tracer_provider, names.SCHEMA_URL
        )
        self.instruments = instruments(meter_provider)
        self.propagation = Propagation(with_baggage=options.baggage)
        self.app = app
        self.server: Attributes = {} if app is None else server_of(app.broker.url)

    def traces(self) -> bool:
        """Whether there is an SDK for spans."""
        return self._traces or self._look()[0]

    def measures(self) -> bool:
        """Whether there is an SDK for metrics."""
        return self._measures or self._look()[1]

    def _look(self) -> tuple[bool, bool]:
        """An SDK may be set up late. Asked per job, that costs more than all else without one."""
        if monotonic() >= self._look_again:
            self._traces = _any_real(self._tracer_provider, trace.get_tracer_provider())
            self._measures = _any_real(self._meter_provider, metrics.get_meter_provider())
            self._look_again = monotonic() + LOOK_EVERY
        return self._traces, self._measures

    def providers(self) -> list[Any]:
        """Those of both, as they are now."""
        return [
            self._tracer_provider or trace.get_tracer_provider(),
            self._meter_provider or metrics.get_meter_provider(),
        ]


def _any_real(*providers: object) -> bool:
    """What the API itself brings along holds the place of an SDK, and does nothing until then."""
    stand_ins = ("opentelemetry.trace", "opentelemetry.metrics")
    return any(
        provider is not None and not type(provider).__module__.startswith(stand_ins)
        for provider in providers
    )
