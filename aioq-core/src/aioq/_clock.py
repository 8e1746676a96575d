"""Time as the core sees it, in one place, so that a test can replace it.

Only durations and displayed times come from here: what is due, leased or expired is decided by the
store's own clock.
"""

import time
from datetime import UTC, datetime

__all__ = ["from_ms", "monotonic", "to_ms", "wall_ms"]

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
