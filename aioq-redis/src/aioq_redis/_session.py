"""An open broker in one event loop: it has met its servers, and they are fit to keep jobs."""

import asyncio
from dataclasses import dataclass

from redis.exceptions import ResponseError

from aioq.errors import BrokerUnavailable, ConfigurationError
from aioq_redis._address import Address
from aioq_redis._check import Facts, check
from aioq_redis._errors import translated
from aioq_redis._keys import Keys
from aioq_redis._listing import Listing
from aioq_redis._look import Finder
from aioq_redis._registry import Registry
from aioq_redis._scripts import Dialect, Scripts
from aioq_redis._settings import Settings
from aioq_redis._store import Store
from aioq_redis._topology import Topology
from aioq_redis._waiting import Waiting

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """The parts that a broker has in each event loop."""

    store: Store
    scripts: Scripts
    registry: Registry
    finder: Finder
    listing: Listing
    waiting: Waiting

    @classmethod
    async def open(cls, settings: Settings, keys: Keys, topology: Topology) -> "Session":
        """Connect, and in a cluster learn who holds what.

        Raises:
            BrokerUnavailable: no server answers.
            ConfigurationError: one of them would lose jobs, or cannot do what is asked of it.
        """
        store = Store(settings, keys, topology)
        try:
            facts = await _meet(store, settings, keys, topology)
        except BaseException:
            await store.close()
            raise
        header, shifted = facts.version >= (7, 0), settings.offset is not None
        scripts = Scripts(Dialect(header, shifted))
        registry = Registry(store, scripts)
        finder = Finder(store, scripts, registry)
        listing = Listing(store, scripts, registry, finder)
        waiting = Waiting(store, finder, settings.shown)
        return cls(store, scripts, registry, finder, listing, waiting)

    async def close(self) -> None:
        await self.waiting.close()
        await self.store.close()


async def _meet(store: Store, settings: Settings, keys: Keys, topology: Topology) -> Facts:
    """What the first server that answers is; in a cluster the others are checked as well."""
    reason: Exception | None = None
    for address in topology.seeds:
        try:
            with translated(settings.shown):
                facts = await _check_one(store, settings, address, settings.shown)
                await _may_listen(store, settings, keys, address)
                if facts.clustered:
                    topology.learn(await store.ask(address, "CLUSTER", "SLOTS"), address)
                    await _check_others(store, settings, topology, address)
                return facts
        except BrokerUnavailable as exc:
            reason = exc
    raise BrokerUnavailable(str(reason)) from reason


async def _check_others(store: Store, settings: Settings, topology: Topology, but: Address) -> None:
    """The rest of the cluster; those that are away now take no jobs, and lose none."""

    async def check_one(address: Address) -> None:
        where = f"{address} of {settings.shown}"
        try:
            with translated(where):
                await _check_one(store, settings, address, where)
        except BrokerUnavailable:
            pass

    others = [address for address in topology.masters if address != but]
    # all to their end: what goes on after a refusal would make connections that nobody closes
    found = await asyncio.gather(*map(check_one, others), return_exceptions=True)
    for refusal in found:
        if refusal is not None:
            raise refusal


async def _check_one(store: Store, settings: Settings, address: Address, where: str) -> Facts:
    info: bytes = await store.ask(address, "INFO")
    facts = Facts.read(info.decode("utf-8", "replace"))
    check(
        facts,
        where,
        allow_eviction=settings.allow_eviction,
        durability=settings.durability,
        fsync=await _fsync(store, settings, address),
    )
    return facts


async def _fsync(store: Store, settings: Settings, address: Address) -> str | None:
    """The server's ``appendfsync``, where it matters and the server tells."""
    if settings.durability != "fsync":
        return None
    try:
        reply = await store.ask(address, "CONFIG", "GET", "appendfsync")
    except ResponseError:
        return None  # a managed server may not tell
    return reply[1].decode() if len(reply) == 2 else None


async def _may_listen(store: Store, settings: Settings, keys: Keys, address: Address) -> None:
    """From Redis 7 on a new user may use no channels, unless it is told so."""
    if await store.may_subscribe(address, keys.replies("open")):
        return
    raise ConfigurationError(
        f"{settings.shown}: the Redis user may not listen to aioq's channels, by which workers and "
        f"those who wait for jobs are told: allow it with 'ACL SETUSER <user> &aioq:*'"
    )
