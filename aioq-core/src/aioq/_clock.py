"""Time as the core sees it, in one place, so that a test can replace it.

Only durations and displayed times come from here: what is due, leased or expired is decided by the
store's own clock.
"""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from aioq.errors import InvalidOption

__all__ = ["MAX_SECONDS", "duration_ms", "from_ms", "monotonic", "to_ms", "wall_ms"]

MAX_SECONDS = 100 * 366 * 86_400
"""A century: longer durations are mistakes, and would not fit every store's numbers."""

monotonic = time.monotonic


def wall_ms() -> int:
    """This host's wall clock in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def from_ms(instant: int) -> datetime:
    """An instant of the store as an aware UTC datetime."""
    return datetime.fromtimestamp(instant / 1000, UTC)


def to_ms(instant: datetime) -> int:
    """An aware datetime in milliseconds since the Unix epoch."""
    return round(instant.timestamp() * 1000)


def duration_ms(name: str, duration: Any) -> int:
    """Seconds or a timedelta in milliseconds, rounded up: nothing is due too early.

    Raises:
        InvalidOption: it is no duration, negative, or longer than a century; ``name`` is its name.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 <= seconds <= MAX_SECONDS
    ):
        raise InvalidOption(f"{name} must be a number, not negative, of seconds, got {duration!r}")
    return math.ceil(seconds * 1000)
