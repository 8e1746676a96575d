"""A clock for brokers that stands still until a test moves it."""

__all__ = ["FakeClock"]


class FakeClock:
    """Calling it gives the time in milliseconds since the epoch, as a broker's ``clock`` must.

    Args:
        start_ms: the first instant.
    """

    def __init__(self, start_ms: int = 1_750_000_000_000) -> None:
        self._start = start_ms
        self._now = start_ms

    def __call__(self) -> int:
        return self._now

    def advance(self, ms: int) -> None:
        """Move ``ms`` milliseconds forward.

        Raises:
            ValueError: ``ms`` is negative.
        """
        if ms < 0:
            raise ValueError(f"a clock only moves forward, got {ms} ms")
        self._now += ms

    @property
    def elapsed_ms(self) -> int:
        """How far it has been moved, for a store whose own clock can only be given an offset."""
        return self._now - self._start
