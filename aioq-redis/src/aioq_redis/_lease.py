"""Renewing from a thread, without an event loop."""

from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from aioq.errors import BrokerUnavailable
from aioq.plugins import LeaseClient, Renewed, Token
from aioq_redis._address import Address, Server
from aioq_redis._errors import translate, translated
from aioq_redis._keys import Keys
from aioq_redis._link import pack
from aioq_redis._scripts import Script
from aioq_redis._settle import Renewal
from aioq_redis._topology import Topology, redirect

__all__ = ["RedisLeaseClient"]

_ROUNDS = 4
"""A queue that has moved, or a server that lacks the script, takes a second and a third."""


class RedisLeaseClient(LeaseClient):
    """Renews with a connection of its own per server, for one thread at a time.

    Args:
        server: how to connect.
        keys: the names.
        topology: which server holds what; shared with the event loop.
        script: lua/renew.lua.
        served: gives the queues this process claims from.
        within: seconds a server has to answer at most.
        offset: see ``Store``.
    """

    def __init__(
        self,
        server: Server,
        keys: Keys,
        topology: Topology,
        script: Script,
        served: Callable[[], Collection[str]],
        within: float,
        offset: Callable[[], int] | None,
    ) -> None:
        self._server = server
        self._keys = keys
        self._topology = topology
        self._script = script
        self._served = served
        self._within = within
        self._offset = offset
        self._connections: dict[Address, Any] = {}

    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        allowed = lease_ms / 3000
        deadline = monotonic() + allowed
        renewal = Renewal(tokens, self._served())
        left = renewal.queues
        try:
            with translated(self._server.shown):
                for _ in range(_ROUNDS):
                    left = self._round(renewal, left, lease_ms, deadline)
                    if not left:
                        return renewal.result()
        except BaseException:
            self.close()
            raise
        raise BrokerUnavailable(f"{self._server.shown}: the slots of {left} are moving")

    def close(self) -> None:
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.disconnect()

    def _round(
        self, renewal: Renewal, queues: Sequence[str], lease_ms: int, deadline: float
    ) -> list[str]:
        """Renew in these queues; those that have to be asked again."""
        by_address: dict[Address, list[str]] = {}
        for queue in queues:
            address = self._topology.address(self._topology.slot(queue))
            by_address.setdefault(address, []).append(queue)
        again: list[str] = []
        for address, group in by_address.items():
            left = deadline - monotonic()
            if left <= 0:
                raise BrokerUnavailable(f"{self._server.shown}: too slow to renew leases")
            connection = self._connection(address, left)
            packed = [self._packed(queue, renewal.args(queue, lease_ms)) for queue in group]
            connection.send_packed_command(packed, check_health=False)
            replies = [_read(connection) for _ in group]
            for queue, reply in zip(group, replies, strict=True):
                if isinstance(reply, RedisError):
                    self._learn(reply, address, connection)
                    again.append(queue)
                else:
                    renewal.read(queue, reply)
        return again

    def _learn(self, reply: RedisError, address: Address, connection: Any) -> None:
        """What to do before a call is sent again; raises when that would not help."""
        if isinstance(reply, NoScriptError):
            connection.send_packed_command([pack((b"SCRIPT", b"LOAD", self._script.text))])
            connection.read_response()
        elif (to := redirect(reply, address)) and not to.once:
            self._topology.moved(to)
        else:
            raise translate(reply, self._server.shown) from reply

    def _connection(self, address: Address, left: float) -> Any:
        connection = self._connections.get(address)
        if connection is None:
            # A connection takes several steps, each of which may take this long.
            step = min(self._within, left / 4)
            connection = self._server.blocking_connection(address, step)
            connection.connect()
            self._connections[address] = connection
        return connection

    def _packed(self, queue: str, args: Sequence[Any]) -> bytes:
        names = [self._keys.of(queue, name) for name in self._script.keys]
        tail = () if self._offset is None else (self._offset(),)
        return pack((b"EVALSHA", self._script.digest, len(names), *names, *args, *tail))


def _read(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as exc:
        return exc
