"""Python imports this at its start where the folder is on ``PYTHONPATH``: its clock is wrong."""

import os
import time

_OFFSET = int(os.environ["AIOQ_TEST_CLOCK"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _OFFSET
time.time_ns = lambda: _time_ns() + _OFFSET * 10**9
