"""What is wrong with one loop of the worker: told to its health, and said once."""

from typing import Any

from aioq.errors import BrokerError, BrokerUnavailable
from aioq.worker._health import Health

__all__ = ["Trouble"]


class Trouble:
    """The failures of one loop in a row.

    A store that is out of reach is reported once, and what a broker has to say in a sentence once
    for as long as it says the same. Anything else is a bug, and is shown whole each time.
    """

    def __init__(self, loop: str, health: Health, log: Any) -> None:
        self._loop = loop
        self._health = health
        self._log = log
        self._unavailable = False
        self._told: str | None = None

    def met(self, exc: BaseException) -> None:
        """The loop has failed by this."""
        reason = str(exc) if isinstance(exc, BrokerError) else f"{type(exc).__name__}: {exc}"
        self._health.failed(self._loop, reason)
        if isinstance(exc, BrokerUnavailable):
            if not self._unavailable:
                self._log.warning("broker.unavailable", loop=self._loop, reason=reason)
            self._unavailable = True
        elif not isinstance(exc, BrokerError):
            self._log.error("worker.error", loop=self._loop, reason=reason, exc_info=True)
        elif reason != self._told:
            self._log.error("worker.error", loop=self._loop, reason=reason)
            self._told = reason

    def over(self) -> None:
        """The loop has done its work again."""
        if self._unavailable:
            self._log.info("broker.back", loop=self._loop)
        self._unavailable = False
        self._told = None
