"""Which server holds which queue: one for all, or a cluster's slots."""

from collections.abc import Iterable
from typing import Any

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from aioq_redis._address import Address
from aioq_redis._keys import Keys

__all__ = ["Redirect", "Topology", "redirect"]


class Redirect:
    """Where the server says that a call belongs: for now on (MOVED), or this once (ASK)."""

    __slots__ = ("address", "once", "slot")

    def __init__(self, address: Address, slot: int, once: bool) -> None:
        self.address = address
        self.slot = slot
        self.once = once


def redirect(reply: Any, asked: Address) -> Redirect | None:
    """What a reply says about another server, if that is what it says."""
    if not isinstance(reply, AskError):
        return None
    # MOVED is told by a subclass of ASK's; a server that does not know its name leaves it out.
    told: Any = reply
    address = Address(told.host or asked.host, told.port)
    return Redirect(address, told.slot_id, once=not isinstance(reply, MovedError))


class Topology:
    """The map, shared by the event loops and the lease threads of a broker.

    It is only ever replaced whole or changed entry by entry, so that no lock is needed.
    """

    def __init__(self, seeds: Iterable[Address], keys: Keys) -> None:
        self.seeds = tuple(seeds)
        self.clustered = False
        self.stale = True
        """The map has to be asked for again."""
        self._keys = keys
        self._slots: dict[int, Address] = {}
        self._teller: tuple[Address, ...] = ()
        self._slot_of: dict[str | None, int] = {}

    @property
    def addresses(self) -> list[Address]:
        """All servers known; first the one that told the map, for it was alive."""
        return list(dict.fromkeys((*self._teller, *self._slots.values(), *self.seeds)))

    @property
    def masters(self) -> set[Address]:
        """Who holds slots, as far as is known."""
        return set(self._slots.values())

    def slot(self, queue: str | None) -> int:
        """The slot of a queue, or of the namespace's registry (None); 0 on a single server."""
        if not self.clustered:
            return 0
        slot = self._slot_of.get(queue)
        if slot is None:
            tag = self._keys.registry_tag if queue is None else self._keys.tag(queue)
            slot = self._slot_of[queue] = key_slot(tag)
        return slot

    def address(self, slot: int) -> Address:
        """Who holds a slot."""
        return self._slots.get(slot, self.seeds[0])

    def moved(self, to: Redirect) -> None:
        """A server named another one for a slot; what it holds besides will be asked."""
        self._slots[to.slot] = to.address
        self.stale = True

    def learn(self, ranges: Any, asked: Address) -> None:
        """Take over the answer of ``CLUSTER SLOTS``."""
        slots: dict[int, Address] = {}
        for first, last, master, *_ in ranges:
            host = master[0].decode() if master[0] else asked.host
            address = Address(host, int(master[1]))
            slots.update(dict.fromkeys(range(first, last + 1), address))
        self._slots = slots
        self._teller = (asked,)
        self.clustered = True
        self.stale = False
