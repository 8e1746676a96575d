"""The envelope: the three byte strings of a job that only the core reads.

``policy`` and ``note`` are msgpack without a frame; ``body`` is the magic ``AQ``, one byte with the
major version of the format, then msgpack. Lists grow at their end and unknown trailing items are
ignored, so a minor change needs no new number; a reader that meets a higher major number hands the
job back for a newer worker. docs/envelope.md describes the format, tests/wire/golden holds samples.
"""

import reprlib
from typing import Any

import msgspec

from aioq.errors import SerializationError

__all__ = [
    "MAJOR",
    "Body",
    "NewerEnvelope",
    "Note",
    "Policy",
    "Undecodable",
    "decode_body",
    "decode_note",
    "decode_policy",
    "encode_body",
    "encode_note",
    "encode_policy",
    "preview",
]

MAJOR = 1
_MAGIC = b"AQ"
_PREFIX = _MAGIC + bytes([MAJOR])


class Undecodable(Exception):
    """The bytes are not an envelope."""


class NewerEnvelope(Exception):
    """The envelope was written in a format newer than this aioq reads."""


class Policy(msgspec.Struct, array_like=True, frozen=True):
    """The options that were in force when the job was enqueued; times in seconds."""

    max_retries: int = 0
    retry_delay: float = 5.0
    save_result: bool = False
    result_ttl: int = 3600
    timeout: float | None = None


class Body(msgspec.Struct, array_like=True, frozen=True):
    """Arguments as the serializer wrote them, and headers that travel beside them."""

    content_type: str
    arguments: bytes
    headers: dict[str, str] = {}


class Note(msgspec.Struct, omit_defaults=True, frozen=True):
    """What the core remembers of a job between its deliveries."""

    error: str | None = None
    traceback: str | None = None
    final: bool = False
    """True when this error is the reason why the job ended."""
    unknown_since: int | None = None
    """Store's instant (ms) at which a worker first could not run the job."""
    interruptions: int = 0
    """How often a stopping worker cut the job short and gave it back."""
    carry: dict[str, str] = {}
    """Left by middleware for the next attempt."""


_EMPTY = Note()
_encode = msgspec.msgpack.Encoder().encode
_read_policy = msgspec.msgpack.Decoder(Policy).decode
_read_body = msgspec.msgpack.Decoder(Body).decode
_read_note = msgspec.msgpack.Decoder(Note).decode
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoders raise on bytes that are not theirs; the last one on a deep pile of lists."""


def encode_policy(policy: Policy) -> bytes:
    return _encode(policy)


def decode_policy(data: bytes) -> Policy:
    """Raises ``Undecodable``."""
    try:
        return _read_policy(data)
    except _BROKEN as exc:
        raise Undecodable(f"the job's policy cannot be decoded: {exc}") from exc


def encode_body(content_type: str, arguments: bytes, headers: dict[str, str]) -> bytes:
    """Raises ``SerializationError`` when a header is not text."""
    for name, value in headers.items():
        if type(name) is not str or type(value) is not str:
            raise SerializationError(f"a header must be text: {preview(name)} is {preview(value)}")
    try:
        return _PREFIX + _encode((content_type, arguments, headers))
    except UnicodeEncodeError as exc:
        raise SerializationError(f"a header must be text: {exc}") from exc


def decode_body(data: bytes) -> Body:
    """Raises ``NewerEnvelope`` or ``Undecodable``."""
    if data[:3] != _PREFIX:
        if data[:2] == _MAGIC and len(data) > 2 and data[2] > MAJOR:
            raise NewerEnvelope(
                f"the job's envelope has version {data[2]}, this aioq reads up to {MAJOR}: "
                f"upgrade the worker"
            )
        raise Undecodable("the job's body is not an aioq envelope")
    try:
        return _read_body(memoryview(data)[3:])
    except _BROKEN as exc:
        raise Undecodable(f"the job's body cannot be decoded: {exc}") from exc


def encode_note(note: Note) -> bytes:
    return _encode(note)


def decode_note(data: bytes | None) -> Note:
    """The note, or an empty one: a note that cannot be read costs only the history it held."""
    if data is None:
        return _EMPTY
    try:
        return _read_note(data)
    except _BROKEN:
        return _EMPTY


def preview(value: Any, limit: int = 200) -> str:
    """A short ``repr`` for messages; never the whole of a large value."""
    text = _short.repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


_short = reprlib.Repr()  # bounded in depth, too, and never raises because a value's own repr does
_short.maxstring = _short.maxother = _short.maxlong = 300
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = 20
