"""Help for tests of programs and plugins that use aioq.

``offline`` keeps an app's jobs in memory during a test and gives ``Jobs`` to look at them and run
them; the pytest plugin gives the same as fixtures. For authors of brokers, ``FakeClock`` moves a
broker's time by hand, and ``aioq.testing.conformance`` holds the promises of the broker contract as
a test suite; it needs pytest and hypothesis, so it is imported by name only.
"""

from aioq.testing._clock import FakeClock
from aioq.testing._jobs import Jobs, offline

__all__ = ["FakeClock", "Jobs", "offline"]
