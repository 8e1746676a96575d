"""Renewing from a thread, without an event loop."""

from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any

from redis.exceptions import NoScriptError, RedisError, ResponseError

from aioq.errors import AioqError, BrokerUnavailable
from aioq.plugins import LeaseClient, Renewed, Token
from aioq_redis._address import Address
from aioq_redis._errors import translate, translated
from aioq_redis._keys import Keys
from aioq_redis._link import pack
from aioq_redis._renewal import Renewal
from aioq_redis._scripts import Script
from aioq_redis._settings import Settings
from aioq_redis._topology import Topology, redirect

__all__ = ["RedisLeaseClient"]

_ROUNDS = 4
"""A queue that has moved, or a server that lacks the script, takes a second and a third."""


class RedisLeaseClient(LeaseClient):
    """Renews with a connection of its own per server, for one thread at a time.

    Args:
        settings: of the broker.
        keys: the names.
        topology: which server holds what; shared with the event loop.
        script: lua/renew.lua.
        served: gives the queues this process claims from.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        topology: Topology,
        script: Script,
        served: Callable[[], Collection[str]],
    ) -> None:
        self._server = settings.server
        self._keys = keys
        self._topology = topology
        self._script = script
        self._served = served
        self._within = settings.within
        self._offset = settings.offset
        self._connections: dict[Address, Any] = {}

    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        deadline = monotonic() + lease_ms / 3000
        renewal = Renewal(tokens, self._served())
        left = renewal.queues
        failure: AioqError | None = None
        try:
            for _ in range(_ROUNDS):
                left, failed = self._round(renewal, left, lease_ms, deadline)
                failure = failed or failure
                if not left:
                    break
        except BaseException:
            self.close()
            raise
        if failure is None and left:
            failure = BrokerUnavailable(f"{self._server.shown}: the slots of {left} are moving")
        if failure is not None:
            raise failure
        return renewal.result()

    def close(self) -> None:
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.disconnect()

    def _round(
        self, renewal: Renewal, queues: Sequence[str], lease_ms: int, deadline: float
    ) -> tuple[list[str], AioqError | None]:
        """Renew in these queues; those that have to be asked again, and what has failed.

        A server that fails keeps no other from being asked; those that answered the last time come
        first, so that waiting for it does not use up their time.
        """
        by_address: dict[Address, list[str]] = {}
        for queue in queues:
            address = self._topology.address(self._topology.slot(queue))
            by_address.setdefault(address, []).append(queue)
        again: list[str] = []
        failure: AioqError | None = None
        for address in sorted(by_address, key=lambda address: address not in self._connections):
            calls = {queue: renewal.args(queue, lease_ms) for queue in by_address[address]}
            try:
                with translated(self._server.shown):
                    replies = self._ask(address, calls, deadline)
            except AioqError as exc:
                failure = exc
                if (connection := self._connections.pop(address, None)) is not None:
                    connection.disconnect()
                continue
            for queue, reply in replies.items():
                if reply is None:
                    again.append(queue)
                else:
                    renewal.read(queue, reply)
        return again, failure

    def _ask(
        self, address: Address, calls: Mapping[str, Sequence[Any]], deadline: float
    ) -> dict[str, bytes | None]:
        """What one server says to each queue; None where it has to be asked again."""
        left = deadline - monotonic()
        if left <= 0:
            raise BrokerUnavailable(f"{self._server.shown}: too slow to renew leases")
        connection = self._connection(address, left)
        packed = [self._packed(queue, args) for queue, args in calls.items()]
        connection.send_packed_command(packed, check_health=False)
        replies = dict(zip(calls, [_read(connection) for _ in calls], strict=True))
        for queue, reply in replies.items():
            if isinstance(reply, RedisError):
                self._learn(reply, address, connection)
                replies[queue] = None
        return replies

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
