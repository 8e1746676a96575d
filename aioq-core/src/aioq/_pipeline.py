"""Composing the onion: once per task, never per job."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from aioq.middleware import Middleware

__all__ = ["compose", "in_order"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


def in_order(layers: Iterable[Middleware]) -> list[Middleware]:
    """Outermost first; ties keep their registration order."""
    return sorted(layers, key=lambda layer: layer.order)


def compose(layers: Sequence[Middleware], method: str, innermost: Handler) -> Handler:
    """``innermost`` wrapped by ``method`` of each layer; layers that do not override it cost
    nothing."""
    handler: Any = innermost
    for layer in reversed(layers):
        if overrides(layer, method):
            handler = _wrap(getattr(layer, method), handler)
    wrapped: Handler = handler
    return wrapped


def _wrap(around: Callable[..., Any], call_next: Any) -> Callable[..., Any]:
    def handler(subject: Any) -> Any:
        return around(subject, call_next)

    return handler


def overrides(layer: Middleware, method: str) -> bool:
    """Whether the layer's class has a ``method`` of its own."""
    return getattr(type(layer), method) is not getattr(Middleware, method)
