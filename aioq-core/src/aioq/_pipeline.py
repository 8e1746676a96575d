"""Composing the onion: once per task, never per job."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
            handler = partial(_call_layer, getattr(layer, method), handler)
    wrapped: Handler = handler
    return wrapped


def _call_layer(around: Callable[..., Any], call_next: Any, subject: Any) -> Any:
    return around(subject, call_next)


def overrides(layer: Middleware, method: str) -> bool:
    """Whether the layer's class has a ``method`` of its own."""
    return getattr(type(layer), method) is not getattr(Middleware, method)
