"""The names of all keys: the places of a queue, the registry of a namespace.

``{ns.queue}`` is the hash tag of Redis Cluster: all keys of a queue live in one slot. The first dot
ends the namespace, so that the tag is unambiguous.
"""

__all__ = ["Keys"]

PREFIX = "aioq:1"
"""1 is the version of this layout."""


class Keys:
    """Names in one namespace, which has no dot in its own name."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._prefixes: dict[str, str] = {}
        registry = f"{PREFIX}:{{{namespace}}}"
        self.queues = f"{registry}:queues".encode()
        self.workers = f"{registry}:workers".encode()
        self.beats = f"{registry}:beats".encode()
        self.registry_tag = namespace.encode()

    def tag(self, queue: str) -> bytes:
        """What Redis Cluster hashes."""
        # A brace in the queue's name ends the tag there, for all keys of the queue alike.
        return f"{self._namespace}.{queue}".split("}", 1)[0].encode()

    def of(self, queue: str, name: str) -> bytes:
        """A place of a queue: ``aioq:1:{ns.queue}:r``."""
        return f"{self._prefix(queue)}:{name}".encode()

    def result(self, queue: str, raw_id: bytes) -> bytes:
        """Where a saved result is kept."""
        return f"{self._prefix(queue)}:res:{raw_id.hex()}".encode()

    def replies(self, client: str) -> str:
        """The channel on which a client hears what has finished."""
        return f"{PREFIX}:{{{self._namespace}}}:reply:{client}"

    def _prefix(self, queue: str) -> str:
        prefix = self._prefixes.get(queue)
        if prefix is None:
            prefix = self._prefixes[queue] = f"{PREFIX}:{{{self._namespace}.{queue}}}"
        return prefix
