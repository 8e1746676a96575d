"""A subscription that notices when nobody is at the other end."""

from collections.abc import Sequence
from typing import NamedTuple

from aioq.errors import BrokerUnavailable
from aioq_redis._errors import translated
from aioq_redis._link import Link, pack

__all__ = ["Listener", "Message"]

_SILENCE = 3.0
"""Seconds without a word after which the server is asked whether it is there."""


class Message(NamedTuple):
    """What was published."""

    channel: bytes
    data: bytes


class Listener:
    """Channels on a connection of their own.

    Args:
        link: the connection; the listener closes it.
        where: names the store.
        within: seconds the server has to answer.
    """

    def __init__(self, link: Link, where: str, within: float) -> None:
        self._link = link
        self._where = where
        self._within = within
        self._quiet = 0.0
        self._asked = False

    async def subscribe(self, channels: Sequence[str | bytes]) -> None:
        """Returns when the server has confirmed all of them."""
        with translated(self._where):
            await self._link.send(pack((b"SUBSCRIBE", *channels)), self._within)
            for _ in channels:
                if await self._link.read(self._within) is None:
                    raise self._dead()

    async def next(self, within: float = _SILENCE) -> Message | None:
        """The next message; None when none came in time.

        Raises:
            BrokerUnavailable: the server is gone, or does not answer.
        """
        with translated(self._where):
            reply = await self._link.read(min(within, _SILENCE))
            if reply is not None:
                self._quiet, self._asked = 0.0, False
                return Message(reply[1], reply[2]) if reply[0] == b"message" else None
            self._quiet += min(within, _SILENCE)
            if self._asked and self._quiet >= _SILENCE + self._within:
                raise self._dead()
            if not self._asked and self._quiet >= _SILENCE:
                self._asked = True
                await self._link.send(pack((b"PING",)), self._within)
            return None

    async def close(self) -> None:
        await self._link.close()

    def _dead(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self._where}: no answer on a subscription")
