"""Job ids: UUID version 7 (RFC 9562, section 5.7), ascending within one process.

Made by the client, so that an enqueue can be sent again without doubling. The 12 bits behind the
millisecond hold its fraction (section 6.2, method 3), and an id is never smaller than the one
before it: jobs enqueued in one millisecond keep their order.
"""

import os
import threading
import time
from uuid import UUID

from aioq._fork import after_fork
from aioq.errors import InvalidOption

__all__ = ["check_job_id", "new_job_id"]

_lock = threading.Lock()
_last = 0


def new_job_id() -> str:
    """A fresh UUIDv7 in canonical text form."""
    global _last
    ms, fraction = divmod(time.time_ns(), 1_000_000)
    stamp = ms << 12 | (fraction << 12) // 1_000_000
    with _lock:
        if stamp <= _last:
            stamp = _last + 1
        _last = stamp
    value = (
        (stamp >> 12) << 80
        | 0x7 << 76
        | (stamp & 0xFFF) << 64
        | 0b10 << 62
        | int.from_bytes(os.urandom(8), "big") >> 2
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _renew() -> None:
    """Another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


after_fork(_renew)


def check_job_id(value: object) -> str:
    """A user-given id in canonical form.

    Raises:
        InvalidOption: it is not a UUID.
    """
    try:
        return str(value if isinstance(value, UUID) else UUID(value))  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError):
        raise InvalidOption(
            f"job_id must be a UUID, got {value!r}; for a business key use "
            f"uuid.uuid5(NAMESPACE, key)"
        ) from None
