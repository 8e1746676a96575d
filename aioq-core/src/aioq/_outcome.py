"""How one attempt ended: the verdict, a value that observers match on."""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Cancelled", "Dead", "Failed", "Outcome", "Released", "Retried", "Snoozed", "Succeeded"]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The task returned."""

    result: object


@dataclass(frozen=True, slots=True)
class Retried:
    """It raised and will run again after ``delay`` seconds."""

    delay: float
    error: BaseException


@dataclass(frozen=True, slots=True)
class Snoozed:
    """It asked to run again after ``delay`` seconds; no retry was spent."""

    delay: float


@dataclass(frozen=True, slots=True)
class Failed:
    """It raised, and no retry is left or wanted."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It was stopped because its cancel was asked."""


@dataclass(frozen=True, slots=True)
class Released:
    """It was given back without an attempt being counted, due after ``delay`` seconds."""

    reason: str
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Dead:
    """The system gave up on it."""

    reason: str


Outcome: TypeAlias = Succeeded | Retried | Snoozed | Failed | Cancelled | Released | Dead
