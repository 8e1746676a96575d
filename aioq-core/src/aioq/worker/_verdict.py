"""From what happened to a verdict, and from a verdict to what the store is told."""

from typing import assert_never

import msgspec

from aioq._describe import describe, traceback_of
from aioq._outcome import (
    Cancelled,
    Dead,
    Failed,
    Outcome,
    Released,
    Retried,
    Snoozed,
    Succeeded,
)
from aioq._records import Settlement, Token
from aioq._wire import Note, encode_note
from aioq.errors import Retry, Snooze
from aioq.middleware._instructions import instruction_in

__all__ = ["judge", "to_settlement"]


def judge(error: BaseException, *, retries_left: bool) -> Outcome:
    """The verdict on an attempt that raised ``error`` through the whole onion."""
    match instruction_in(error) or error:
        case Retry(delay=delay) as retry if retries_left:
            return Retried(delay or 0.0, retry.__cause__ or retry)
        case Snooze(delay=delay):
            return Snoozed(delay)
        case final:
            return Failed(final)


def to_settlement(token: Token, outcome: Outcome, note: Note, carry: dict[str, str]) -> Settlement:
    """What the store is told of this outcome; a saved result is the caller's to add.

    Args:
        token: of the delivery.
        outcome: the verdict.
        note: what is remembered of the job so far.
        carry: what middleware leaves for the next attempt.
    """
    match outcome:
        case Succeeded():
            return Settlement(token, "completed")
        case Retried(delay=delay, error=error):
            return Settlement(token, "retry", _ms(delay), note=_failure(note, error, carry))
        case Snoozed(delay=delay):
            return Settlement(token, "snooze", _ms(delay), note=_carrying(note, carry))
        case Failed(error=error):
            return Settlement(token, "failed", note=_failure(note, error, carry, final=True))
        case Cancelled():
            return Settlement(token, "cancelled")
        case Released(delay=delay):
            return Settlement(token, "release", _ms(delay), note=_carrying(note, carry))
        case Dead(reason=reason):
            return Settlement(token, "dead", note=encode_note(Note(error=reason, final=True)))
        case _:
            assert_never(outcome)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _carrying(note: Note, carry: dict[str, str]) -> bytes:
    return encode_note(msgspec.structs.replace(note, carry=carry or note.carry))


def _failure(
    note: Note, error: BaseException, carry: dict[str, str], *, final: bool = False
) -> bytes:
    return encode_note(
        Note(
            error=describe(error),
            traceback=traceback_of(error),
            final=final,
            interruptions=note.interruptions,
            carry=carry,
        )
    )
