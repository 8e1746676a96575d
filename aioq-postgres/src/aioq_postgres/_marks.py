"""Where a claim begins to look, when looking from the very start has become slow.

While an old snapshot is held open anywhere in the database, the index entries of jobs that were
taken cannot go, and each claim walks over all of them. So after a slow claim the next ones begin at
the sort keys that it reached, for a second; then one looks from the start again. A job that came in
with an earlier key, by its priority or as a retry, waits that second at most.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from aioq_postgres._sql import LOWEST

__all__ = ["Marks"]

SLOW: Final = (0.003, 0.00005)
"""A claim is slow above this many seconds, and so many more for each job."""
LEAST: Final = 50
"""Smaller claims never set a mark: what they save is not worth the order."""
LASTS: Final = 1.0


class Marks:
    """The marks of one event loop's claims, by queue."""

    def __init__(self) -> None:
        self._lows: dict[str, int] = {}
        self._until = 0.0

    def lows(self, queues: Sequence[str]) -> list[int]:
        """The sort keys to begin at."""
        if self._lows and time.monotonic() > self._until:
            self._lows.clear()
        return [self._lows.get(queue, LOWEST) for queue in queues]

    def learn(self, reached: Mapping[str, int], taken: int, limit: int, seconds: float) -> bool:
        """After a claim: the last sort key of each queue, how many jobs it gave, how long it took.

        Returns:
            Whether the claim may have left jobs behind that stand before its marks.
        """
        if taken < limit:
            marked = bool(self._lows)
            self._lows.clear()
            return marked
        if self._lows:
            self._lows.update(reached)
        elif limit >= LEAST and seconds > SLOW[0] + SLOW[1] * limit:
            self._lows.update(reached)
            self._until = time.monotonic() + LASTS
        return False
