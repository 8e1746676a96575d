"""Counts that are kept here until a reader asks: cheaper than to tell an SDK of each job."""

import threading
from collections.abc import Mapping
from typing import Final, TypeAlias

from opentelemetry.metrics import CallbackOptions, Observation

from aioq_otel import _names as names

__all__ = ["Attributes", "Count", "Tally"]

Attributes: TypeAlias = Mapping[str, str | int]

MOST: Final = 2_000
"""Sets of attributes of one metric, as with the SDK; what is beyond them is counted together."""


class Count:
    """One of the counts of a tally."""

    __slots__ = ("_lock", "attributes", "value")

    def __init__(self, attributes: Attributes, lock: threading.Lock) -> None:
        self.attributes = attributes
        self.value = 0
        self._lock = lock

    def add(self, count: int) -> None:
        with self._lock:
            self.value += count


class Tally:
    """The counts of one metric."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[frozenset[tuple[str, str | int]], Count] = {}

    def of(self, attributes: Attributes) -> Count:
        """The count that is told with these attributes; the same one each time."""
        key = frozenset(attributes.items())
        with self._lock:
            if key not in self._counts and len(self._counts) >= MOST - 1:
                attributes = {names.OVERFLOW: True}
                key = frozenset(attributes.items())
            if key not in self._counts:
                self._counts[key] = Count(attributes, self._lock)
            return self._counts[key]

    def observe(self, _: CallbackOptions) -> list[Observation]:
        """For readers, in threads of theirs."""
        with self._lock:
            return [Observation(each.value, each.attributes) for each in self._counts.values()]
