"""A ready-made token: which job, which delivery, which worker process, in 44 bytes.

The delivery number alone is no fence: after a failover a store can hand out the same number twice.
The worker id is a random UUID (122 bits) made at each process start, and closes that hole. Nor does
the job's id alone say which job: one that the caller gave can be given again when its record is
gone, and is counted from 1 anew. The instant of the enqueue tells the two apart.
"""

import struct
from typing import NamedTuple

from aioq._records import Token

__all__ = ["Fence"]

_layout = struct.Struct(">16sI16sq")


class Fence(NamedTuple):
    """The parts of a token, for brokers that need no more than these.

    A broker may append to the packed bytes what else it wants to find in its token.
    ``job_id`` and ``worker`` are UUIDs in canonical text form.
    """

    job_id: str
    number: int
    worker: str
    enqueued_ms: int
    """Of the job, as ``Delivery`` has it; a requeue leaves it as it was."""

    def pack(self) -> Token:
        worker = _to_bytes(self.worker)
        return _layout.pack(_to_bytes(self.job_id), self.number, worker, self.enqueued_ms)

    @classmethod
    def unpack(cls, token: Token) -> "Fence":
        """Raises ``struct.error`` when the bytes are no token of this layout."""
        job_id, number, worker, enqueued_ms = _layout.unpack(token)
        return cls(_to_text(job_id), number, _to_text(worker), enqueued_ms)


def _to_bytes(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))


def _to_text(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
