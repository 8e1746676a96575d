"""What can be chosen, in code or by ``AIOQ_OTEL_*``, checked where it is given."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, get_args

from aioq.errors import InvalidOption

__all__ = ["Options", "QueueMetrics", "Relationship", "RetryStatus", "SpanName"]

Relationship: TypeAlias = Literal["auto", "child", "link", "none"]
SpanName: TypeAlias = Literal["task", "queue"]
RetryStatus: TypeAlias = Literal["error", "unset"]
QueueMetrics: TypeAlias = Literal["auto", "on", "off"]

PREFIX = "AIOQ_OTEL_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of ``TracingMiddleware``, which describes them."""

    relationship: Relationship = "auto"
    link_after: float = 60.0
    span_name: SpanName = "task"
    queue_metrics: QueueMetrics = "auto"
    create_spans: bool = False
    retry_status: RetryStatus = "error"
    baggage: bool = True
    error_messages: bool = True
    exclude: tuple[str, ...] = ()
    trace_internal: bool = False

    @classmethod
    def read(
        cls, given: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> "Options":
        """What is given in code; else the environment's variable; else the default.

        Raises:
            InvalidOption: a value is impossible; the message names the option or the variable.
        """
        environment = os.environ if environment is None else environment
        chosen: dict[str, Any] = {}
        for field in fields(cls):
            variable = PREFIX + field.name.upper()
            if given.get(field.name) is not None:
                chosen[field.name] = _READERS[field.name](field.name, given[field.name])
            elif text := environment.get(variable):
                chosen[field.name] = _READERS[field.name](variable, text)
        return cls(**chosen)

    def excludes(self, task: str) -> bool:
        """Whether the task goes without spans."""
        return any(fnmatchcase(task, pattern) for pattern in self.exclude)


def _one_of(kind: Any) -> Callable[[str, Any], Any]:
    choices = get_args(kind)

    def read(name: str, value: Any) -> Any:
        if value not in choices:
            raise InvalidOption(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        return value

    return read


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not seconds >= 0:
        raise InvalidOption(f"{name} must be a number, not negative, of seconds, got {value!r}")
    return seconds


def _flag(name: str, value: Any) -> bool:
    words = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}
    answer = words.get(str(value).lower())
    if answer is None:
        raise InvalidOption(f"{name} must be true or false, got {value!r}")
    return answer


def _switch(name: str, value: Any) -> str:
    if str(value).lower() == "auto":
        return "auto"
    try:
        return "on" if _flag(name, value) else "off"
    except InvalidOption:
        raise InvalidOption(f"{name} must be auto, true or false, got {value!r}") from None


def _patterns(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    found = value.split(",") if isinstance(value, str) else value
    return tuple(word for pattern in found if (word := pattern.strip()))


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "relationship": _one_of(Relationship),
    "link_after": _seconds,
    "span_name": _one_of(SpanName),
    "queue_metrics": _switch,
    "create_spans": _flag,
    "retry_status": _one_of(RetryStatus),
    "baggage": _flag,
    "error_messages": _flag,
    "exclude": _patterns,
    "trace_internal": _flag,
}
