"""Lines that must not type-check: each is marked with mypy's code (see check_refused.py)."""

from aioq.errors import Abort, Retry, Snooze

Retry(delay="soon")  # E: arg-type
Snooze()  # E: call-arg
Abort(42)  # E: arg-type
