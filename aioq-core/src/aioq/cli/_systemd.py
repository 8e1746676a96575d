"""What systemd is told over ``NOTIFY_SOCKET``: ready, stopping, alive, and a line for people."""

import os
import socket
from math import inf

from aioq._clock import monotonic
from aioq._log import Logger, get_logger
from aioq.worker._health import HealthReport

__all__ = ["Notifier"]

LONGEST_INTERVAL = 1.0
SEND_TIMEOUT = 1.0


class Notifier:
    """Tells systemd how the service stands.

    Args:
        address: a path, or ``@`` and the name of an abstract socket.
        watchdog: seconds after which systemd takes silence for death; None when it does not care.
    """

    def __init__(self, address: str, watchdog: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog
        self._log: Logger = get_logger()
        self._ready = self._stopping = self._deaf = False
        self._status: str | None = None
        self._alive_told = -inf
        self.every = min(LONGEST_INTERVAL, (watchdog or 60.0) / 4)
        """Seconds after which ``update`` should be called again."""

    @classmethod
    def from_environment(cls) -> "Notifier | None":
        """The one this service was started with; its variables are taken out of the environment,
        because they are not meant for the processes that this one starts."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        watchdog = os.environ.pop("WATCHDOG_USEC", None)
        meant_for = os.environ.pop("WATCHDOG_PID", None)
        if not address:
            return None
        mine = meant_for in (None, str(os.getpid()))
        return cls(address, int(watchdog) / 1e6 if watchdog and mine else None)

    def update(self, report: HealthReport, status: str) -> None:
        """Tell what has changed, and, while the service is alive, that it is.

        What systemd does not take is told again by the next call.
        """
        now = monotonic()
        ready = report.ready and not self._ready
        stopping = report.status in ("stopping", "stopped") and not self._stopping
        alive = (
            self._watchdog is not None and report.alive and now - self._alive_told >= self.every / 2
        )
        lines = ["READY=1"] if ready else []
        lines += ["STOPPING=1"] if stopping else []
        lines += [f"STATUS={status}"] if status != self._status else []
        lines += ["WATCHDOG=1"] if alive else []
        if lines and self._send("\n".join(lines)):
            self._ready = self._ready or ready
            self._stopping = self._stopping or stopping
            self._status = status
            self._alive_told = now if alive else self._alive_told

    def _send(self, message: str) -> bool:
        """Whether systemd has taken it."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                # who has just let us wait in vain is asked again, but not waited for each time
                connection.settimeout(0.0 if self._deaf else SEND_TIMEOUT)
                connection.sendto(message.encode(), self._address)
        except OSError as exc:
            if not self._deaf:
                self._log.warning("worker.not_notified", reason=f"NOTIFY_SOCKET: {exc}")
            self._deaf = True
        else:
            self._deaf = False
        return not self._deaf
