"""Calls of scripts and commands from one event loop, to whichever server holds the queue."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, NoScriptError, RedisError

from aioq.errors import AioqError, BrokerUnavailable
from aioq_redis._address import Address
from aioq_redis._errors import translate, translated
from aioq_redis._keys import Keys
from aioq_redis._link import Link, Node, pack
from aioq_redis._scripts import Script
from aioq_redis._settings import Confirm, Settings
from aioq_redis._topology import Topology, redirect

__all__ = ["Call", "Store"]

_HOPS = 5
"""How often a call follows the servers' directions; a slot that moves on takes two."""


class Call(NamedTuple):
    """A script on one queue; ``queue`` None means the registry of the namespace."""

    script: Script
    queue: str | None
    args: Sequence[Any]
    more_keys: Sequence[bytes] = ()


class Store:
    """The connections of one event loop.

    Args:
        settings: of the broker.
        keys: the names.
        topology: which server holds what.
    """

    def __init__(self, settings: Settings, keys: Keys, topology: Topology) -> None:
        self.keys = keys
        self.within = settings.within
        self._server = settings.server
        self._topology = topology
        self._most = settings.most
        self._offset = settings.offset
        self._nodes: dict[Address, Node] = {}
        self._key_lists: dict[tuple[str, str], list[bytes]] = {}
        self._refreshing = asyncio.Lock()

    async def close(self) -> None:
        """Let go of all connections."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.close()

    # -- calls -------------------------------------------------------------------------------------

    async def run(
        self, script: Script, queue: str | None, args: Sequence[Any], keys: Sequence[bytes] = ()
    ) -> Any:
        """One script on one queue."""
        packed = self._pack(Call(script, queue, args, keys))
        (reply,) = await self._send(self._topology.slot(queue), [packed], (script,))
        return reply

    async def run_all(self, calls: Sequence[Call], confirm: Confirm | None = None) -> list[Any]:
        """Scripts on several queues, together where they go to one slot; replies in order.

        Raises:
            BrokerUnavailable: also when ``confirm`` did not come in time; the calls were applied.
        """
        if len(calls) == 1:
            (call,) = calls
            slot = self._topology.slot(call.queue)
            return await self._send(slot, [self._pack(call)], (call.script,), confirm)
        sends, places = self._by_slot(calls, confirm)
        if len(sends) == 1:
            return await sends[0]  # all that one server ever needs
        return _in_order(places, await asyncio.gather(*sends))

    async def run_each(self, calls: Sequence[Call]) -> list[Any]:
        """The same, but where a server fails its error stands in place of the replies."""
        sends, places = self._by_slot(calls, None)
        groups: list[list[Any]] = []
        answers = await asyncio.gather(*sends, return_exceptions=True)
        for numbers, answer in zip(places, answers, strict=True):
            if isinstance(answer, AioqError):
                groups.append([answer] * len(numbers))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                groups.append(answer)
        return _in_order(places, groups)

    def _by_slot(
        self, calls: Sequence[Call], confirm: Confirm | None
    ) -> tuple[Sequence[Coroutine[Any, Any, list[Any]]], list[list[int]]]:
        """What goes out together, and where its calls stand."""
        slots: dict[int, list[int]] = {}
        for number, call in enumerate(calls):
            slots.setdefault(self._topology.slot(call.queue), []).append(number)
        sends = [
            self._send(
                slot,
                [self._pack(calls[number]) for number in numbers],
                [calls[number].script for number in numbers],
                confirm,
            )
            for slot, numbers in slots.items()
        ]
        return sends, list(slots.values())

    async def run_group(self, script: Script, queues: Sequence[str], args: Sequence[Any]) -> Any:
        """A script that takes several queues of one slot at once."""
        names = [name for queue in queues for name in self._names(script, queue)]
        (reply,) = await self._send(
            self._topology.slot(queues[0]), [self._eval(script, names, args)], (script,)
        )
        return reply

    async def command(self, queue: str | None, *parts: Any) -> Any:
        """One plain command on the server that holds a queue, or the registry."""
        (reply,) = await self._send(self._topology.slot(queue), [pack(parts)], (None,))
        return reply

    def groups(self, queues: Sequence[str]) -> list[list[str]]:
        """Queues that one script, or one blocking call, may touch together; in order."""
        if not self._topology.clustered:
            return [list(queues)] if queues else []
        slots: dict[int, list[str]] = {}
        for queue in queues:
            slots.setdefault(self._topology.slot(queue), []).append(queue)
        return list(slots.values())

    def server_of(self, queue: str) -> Address:
        """Who holds a queue, as far as is known."""
        return self._topology.address(self._topology.slot(queue))

    async def link_to_any(self) -> Link:
        """The same to whichever server answers: all of a cluster hear what is published."""
        if not self._topology.clustered:
            return await self.link(None)
        with translated(self._server.shown):
            await self._refresh()
            failure: Exception | None = None
            for address in self._topology.addresses:
                try:
                    return await self._at(address).connect()
                except (RedisError, OSError) as exc:
                    self.doubt()
                    failure = exc
            assert failure is not None
            raise failure

    async def link(self, queue: str | None) -> Link:
        """A connection of the caller's own to the server that holds a queue."""
        with translated(self._server.shown):
            await self._refresh()
            try:
                return await self._node(self._topology.slot(queue)).connect()
            except (RedisError, OSError):
                self.doubt()
                raise

    def doubt(self) -> None:
        """Something went wrong that another map of the cluster may put right."""
        self._topology.stale = True

    # -- one server after the other ----------------------------------------------------------------

    async def ask(self, address: Address, *parts: Any) -> Any:
        """One plain command to one server; raises the driver's errors."""
        (reply,) = await self._at(address).call(pack(parts), 1)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def may_subscribe(self, address: Address, channel: str) -> bool:
        """Whether the user may listen to a channel; raises the driver's errors."""
        # Together, so that the connection is an ordinary one again.
        both = pack((b"SUBSCRIBE", channel)) + pack((b"UNSUBSCRIBE", channel))
        reply, _ = await self._at(address).call(both, 2)
        if isinstance(reply, RedisError) and not isinstance(reply, NoPermissionError):
            raise reply
        return not isinstance(reply, RedisError)

    async def _send(
        self,
        slot: int,
        packed: list[bytes],
        scripts: Sequence[Script | None],
        confirm: Confirm | None = None,
    ) -> list[Any]:
        """Replies in order; follows directions, and loads scripts that a server lacks."""
        try:
            if self._topology.clustered:
                await self._refresh()
            node = self._node(slot)
            tail = self._tail(confirm)
            replies = await node.call(b"".join((*packed, tail)), len(packed) + bool(tail))
            confirmed = replies.pop() if tail else None
            for number, reply in enumerate(replies):
                if isinstance(reply, RedisError):
                    replies[number], confirmed = await self._again(
                        node, packed[number], scripts[number], reply, tail
                    )
        except AioqError:
            self.doubt()
            raise
        except (RedisError, OSError) as exc:
            self.doubt()
            raise translate(exc, self._server.shown) from exc
        if confirm is not None:
            self._check(confirm, confirmed)
        return replies

    async def _again(
        self, node: Node, packed: bytes, script: Script | None, reply: Any, tail: bytes
    ) -> tuple[Any, Any]:
        """A call that was answered by an error: to where it belongs, with what it needs."""
        asking, confirmed = b"", None
        for _ in range(_HOPS):
            if isinstance(reply, NoScriptError) and script is not None:
                before = pack((b"SCRIPT", b"LOAD", script.text)) + asking
                count = 1 + bool(asking)
            elif to := redirect(reply, node.address):
                if not to.once:
                    self._topology.moved(to)
                before = asking = pack((b"ASKING",)) if to.once else b""
                count = int(to.once)
                node = self._at(to.address)
            else:
                break
            replies = await node.call(before + packed + tail, count + 1 + bool(tail))
            reply, confirmed = replies[count], replies[-1]
        if isinstance(reply, RedisError):
            raise translate(reply, self._server.shown) from reply
        return reply, confirmed

    def _tail(self, confirm: Confirm | None) -> bytes:
        if confirm is None:
            return b""
        return pack((*confirm.command, int(self.within * 500)))

    def _check(self, confirm: Confirm, reply: Any) -> None:
        if isinstance(reply, RedisError):
            raise translate(reply, self._server.shown) from reply
        if (reply[0] if isinstance(reply, list) else reply) < 1:
            raise BrokerUnavailable(
                f"{self._server.shown}: stored, but {confirm.who} did not confirm it in time"
            )

    async def _refresh(self) -> None:
        """In a cluster, ask for the map when something has gone wrong since the last time."""
        if not (self._topology.clustered and self._topology.stale):
            return
        async with self._refreshing:
            if not self._topology.stale:
                return
            reason: Exception | None = None
            for address in self._topology.addresses:
                try:
                    self._topology.learn(await self.ask(address, "CLUSTER", "SLOTS"), address)
                except (RedisError, OSError) as exc:
                    reason = exc
                else:
                    return
            raise BrokerUnavailable(
                f"{self._server.shown}: no server of the cluster answers ({reason})"
            ) from reason

    def _node(self, slot: int) -> Node:
        return self._at(self._topology.address(slot))

    def _at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = Node(self._server, address, self._most, self.within)
            self._nodes[address] = node
        return node

    # -- packing -----------------------------------------------------------------------------------

    def _names(self, script: Script, queue: str | None) -> list[bytes]:
        if queue is None:
            return [self.keys.workers, self.keys.beats]
        names = self._key_lists.get((script.name, queue))
        if names is None:
            names = [self.keys.of(queue, name) for name in script.keys]
            self._key_lists[script.name, queue] = names
        return names

    def _pack(self, call: Call) -> bytes:
        names = self._names(call.script, call.queue)
        return self._eval(call.script, [*names, *call.more_keys], call.args)

    def _eval(self, script: Script, names: Sequence[bytes], args: Sequence[Any]) -> bytes:
        if self._offset is None:
            return pack((b"EVALSHA", script.digest, len(names), *names, *args))
        return pack((b"EVALSHA", script.digest, len(names), *names, *args, self._offset()))


def _in_order(places: Sequence[Sequence[int]], groups: Sequence[Sequence[Any]]) -> list[Any]:
    """The replies of groups of calls, each where its call stands."""
    replies: list[Any] = [None] * sum(map(len, places))
    for numbers, group in zip(places, groups, strict=True):
        for number, reply in zip(numbers, group, strict=True):
            replies[number] = reply
    return replies
