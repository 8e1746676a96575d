"""Envelope version 1: what old clients wrote can be read, and new ones write the same bytes.

The files in ``golden/1`` are never changed: a format that cannot read them is a new major version.
Each holds one sample as hexadecimal text; lines that begin with ``#`` say what it is.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioq._wire import (
    MAJOR,
    Body,
    NewerEnvelope,
    Note,
    Policy,
    Undecodable,
    decode_body,
    decode_note,
    decode_policy,
    encode_body,
    encode_note,
    encode_policy,
)
from aioq.errors import SerializationError

GOLDEN = Path(__file__).parent / "golden" / "1"

POLICIES = {
    "policy-default": Policy(),
    "policy-full": Policy(5, 30.0, True, 7200, 1.5),
    "policy-largest": Policy(2**31 - 1, 3162240000.0, True, 2**31 - 1, 3162240000.0),
}
BODIES = {
    "body-empty": Body("application/json", b"[[],{}]", {}),
    "body-headers": Body(
        "application/json", b'[[1,"a"],{"k":null}]', {"traceparent": "00-0af7", "tenant": "grün"}
    ),
    "body-other-format": Body("application/x-msgpack", bytes(range(256)), {}),
    "body-large": Body("application/json", b'[["' + b"x" * 300 + b'"],{}]', {}),
}
NOTES = {
    "note-empty": Note(),
    "note-error": Note("ValueError: boom", "Traceback ...\n", True),
    "note-unknown": Note("no task", None, False, 1_750_000_000_000),
    "note-interrupted": Note(interruptions=3, carry={"page": "17"}),
}

encode_sample: dict[type, Callable[[Any], bytes]] = {
    Policy: encode_policy,
    Body: lambda body: encode_body(body.content_type, body.arguments, body.headers),
    Note: encode_note,
}
decode_sample: dict[type, Callable[[bytes], Any]] = {
    Policy: decode_policy,
    Body: decode_body,
    Note: decode_note,
}
SAMPLES: dict[str, Any] = {**POLICIES, **BODIES, **NOTES}


def golden(name: str) -> bytes:
    lines = (GOLDEN / f"{name}.hex").read_text("utf-8").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def test_every_golden_file_has_its_sample() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_was_written_once_is_still_read(name: str) -> None:
    sample = SAMPLES[name]
    assert decode_sample[type(sample)](golden(name)) == sample


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_bytes_are_still_written(name: str) -> None:
    sample = SAMPLES[name]
    assert encode_sample[type(sample)](sample) == golden(name)


def packed(*items: Any) -> bytes:
    return msgspec.msgpack.encode(items)


# -- minor versions: lists grow at their end ---------------------------------------------------


@pytest.mark.parametrize("length", range(6))
def test_an_older_client_may_leave_out_the_end_of_a_policy(length: int) -> None:
    full = (5, 30.0, True, 7200, 1.5)
    assert decode_policy(packed(*full[:length])) == Policy(*full[:length])


def test_an_older_client_may_leave_out_the_headers() -> None:
    body = decode_body(b"AQ\x01" + packed("application/json", b"[[],{}]"))
    assert body == Body("application/json", b"[[],{}]", {})


@pytest.mark.parametrize("extra", [None, 5, "text", [1, [2]], {"a": b"b"}])
def test_what_a_newer_client_adds_is_ignored(extra: Any) -> None:
    policy = packed(5, 30.0, True, 7200, 1.5, extra, extra)
    assert decode_policy(policy) == Policy(5, 30.0, True, 7200, 1.5)
    body = b"AQ\x01" + packed("application/json", b"[[],{}]", {"a": "b"}, extra)
    assert decode_body(body) == Body("application/json", b"[[],{}]", {"a": "b"})
    assert decode_note(msgspec.msgpack.encode({"error": "E", "new": extra})) == Note("E")


def test_headers_of_different_jobs_are_different_objects() -> None:
    raw = b"AQ\x01" + packed("application/json", b"")
    assert decode_body(raw).headers is not decode_body(raw).headers


# -- major versions, and what is no envelope ---------------------------------------------------


@pytest.mark.parametrize("major", [MAJOR + 1, 255])
@pytest.mark.parametrize("rest", [b"", b"rubbish", packed("application/json", b"", {})])
def test_a_newer_major_version_is_told_as_such(major: int, rest: bytes) -> None:
    with pytest.raises(NewerEnvelope) as newer:
        decode_body(b"AQ" + bytes([major]) + rest)
    assert str(newer.value) == (
        f"the job's envelope has version {major}, this aioq reads up to {MAJOR}: upgrade the worker"
    )


@pytest.mark.parametrize("raw", [b"", b"A", b"AQ", b"AQ\x00", b"QA\x01", b'{"task": "t"}', b"\x80"])
def test_what_is_no_envelope_is_told_as_such(raw: bytes) -> None:
    with pytest.raises(Undecodable, match=r"(?m)^the job's body is not an aioq envelope$"):
        decode_body(raw)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\xc1",
        packed(),
        packed("application/json"),
        packed(5, b""),
        packed("application/json", "text"),
        packed("application/json", b"", {"a": 5}),
        packed("application/json", b"", {5: "a"}),
        msgspec.msgpack.encode({"content_type": "x"}),
        b"\x92\xa1\xff\xc4\x00",
        packed("application/json", b"") + b"trailing",
    ],
)
def test_an_envelope_that_is_damaged_cannot_be_decoded(rest: bytes) -> None:
    with pytest.raises(Undecodable, match=r"^the job's body cannot be decoded: "):
        decode_body(b"AQ\x01" + rest)


DEEP = b"\x91" * 200_000 + b"\x90"


def test_a_deep_pile_of_lists_is_damage_like_any_other() -> None:
    with pytest.raises(Undecodable):
        decode_body(b"AQ\x01\x94" + packed("x", b"", {})[1:] + DEEP)
    with pytest.raises(Undecodable, match=r"^the job's policy cannot be decoded: "):
        decode_policy(b"\x96" + packed(5, 30.0, True, 7200, None)[1:] + DEEP)
    assert decode_note(b"\x81\xa3new" + DEEP) == Note()


@given(st.binary(max_size=80))
def test_random_bytes_are_read_or_refused_and_never_break_anything(data: bytes) -> None:
    for read in (decode_body, decode_policy):
        with contextlib.suppress(Undecodable, NewerEnvelope):
            read(data)
    assert isinstance(decode_note(data), Note)


@given(st.binary(max_size=80))
def test_random_bytes_behind_the_prefix_are_undecodable_or_a_body(data: bytes) -> None:
    with contextlib.suppress(Undecodable):
        assert isinstance(decode_body(b"AQ\x01" + data), Body)


@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 200), st.integers(0, 255))
def test_one_changed_byte_never_breaks_a_reader(name: str, place: int, byte: int) -> None:
    sample = SAMPLES[name]
    raw = bytearray(encode_sample[type(sample)](sample))
    raw[place % len(raw)] = byte
    with contextlib.suppress(Undecodable, NewerEnvelope):
        decode_sample[type(sample)](bytes(raw))


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(text, st.binary(max_size=50), st.dictionaries(text, text, max_size=4))
def test_a_body_comes_back_as_it_was_written(
    content_type: str, arguments: bytes, headers: dict[str, str]
) -> None:
    body = Body(content_type, arguments, headers)
    assert decode_body(encode_body(content_type, arguments, headers)) == body


@pytest.mark.parametrize("headers", [{"a": 5}, {5: "a"}, {"a": None}, {"a": "\ud800"}])
def test_a_header_that_is_not_text_is_never_written(headers: Any) -> None:
    with pytest.raises(SerializationError, match=r"^a header must be text: "):
        encode_body("application/json", b"", headers)
