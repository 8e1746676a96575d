"""Help for tests of programs and plugins that use aioq.

``FakeClock`` moves a broker's time by hand. ``aioq.testing.conformance`` holds the promises of the
broker contract as a test suite; it needs pytest and hypothesis, so it is imported by name only.
"""

from aioq.testing._clock import FakeClock

__all__ = ["FakeClock"]
