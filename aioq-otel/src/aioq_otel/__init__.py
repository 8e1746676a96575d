"""OpenTelemetry for aioq: spans and metrics of jobs, with nothing to set up in the app."""

from typing import TYPE_CHECKING, Any

__all__ = ["AioqInstrumentor", "TracingMiddleware"]

if TYPE_CHECKING:
    from aioq_otel._instrumentor import AioqInstrumentor as AioqInstrumentor
    from aioq_otel._middleware import TracingMiddleware as TracingMiddleware
else:

    def __getattr__(name: str) -> Any:
        # The entry point's module lies in this package: finding it must not load opentelemetry.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from aioq_otel._instrumentor import AioqInstrumentor
        from aioq_otel._middleware import TracingMiddleware

        globals().update(AioqInstrumentor=AioqInstrumentor, TracingMiddleware=TracingMiddleware)
        return globals()[name]
