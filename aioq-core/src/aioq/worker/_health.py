"""Whether each part of the worker still does its work."""

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, TypeAlias

from aioq._clock import monotonic

__all__ = ["Health", "HealthReport", "HealthStatus"]

PARDON = 1.0
"""Seconds for which a loop may fail before that shows: a lost connection is no outage."""

HealthStatus: TypeAlias = Literal["starting", "ok", "failing", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How a worker stands.

    Attributes:
        status: ``ok`` when it works and every loop of it did its work lately.
        alive: False when only a new process helps.
        details: the parts that make up the status, as JSON can hold them.
    """

    status: HealthStatus
    alive: bool
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def ready(self) -> bool:
        """Whether it does what it is there for."""
        return self.status == "ok"

    def as_dict(self) -> dict[str, Any]:
        return {"status": self.status, **self.details}


class _Loop:
    """When a loop last succeeded, for how long it may be silent, and since when it fails."""

    __slots__ = ("failing", "fatal_after", "idle", "last", "reason", "within")

    def __init__(self, within: float, fatal_after: float) -> None:
        self.within = within
        self.fatal_after = fatal_after
        self.last = monotonic()
        self.idle = False
        self.failing: float | None = None
        self.reason: str | None = None

    def report(self, now: float) -> dict[str, Any]:
        silent = now - self.last
        pardoned = self.failing is None or now - self.failing <= PARDON
        report: dict[str, Any] = {
            "ok": silent <= self.within and pardoned,
            "silent_for": round(silent, 3),
        }
        if self.idle:
            report["idle"] = True
        if self.reason is not None:
            report["reason"] = self.reason
        return report


class Health:
    """What the loops of one worker say of themselves; may be asked from any thread."""

    def __init__(self) -> None:
        self._loops: dict[str, _Loop] = {}
        self._phase: Literal["starting", "working", "stopping", "stopped"] = "starting"

    def expect(self, name: str, within: float, *, fatal_after: float = inf) -> None:
        """A loop that must report at least every ``within`` seconds; once it has been silent for
        ``fatal_after``, the process is past helping."""
        self._loops[name] = _Loop(within, fatal_after)

    def begin(self) -> None:
        """The start is over: from now on silence counts."""
        for loop in self._loops.values():
            loop.last = monotonic()
        self._phase = "working"

    def stopping(self) -> None:
        """It takes no more work."""
        self._phase = "stopping"

    def stopped(self) -> None:
        """No loop runs any more."""
        self._phase = "stopped"

    def ok(self, name: str, *, idle: bool = False) -> None:
        """The loop has just done its work, or, ``idle``, found that there is none to do; loops
        nobody expects anything of may report, too."""
        if (loop := self._loops.get(name)) is not None:
            loop.last, loop.idle = monotonic(), idle
            loop.failing, loop.reason = None, None

    def failed(self, name: str, reason: str) -> None:
        """The loop has just failed; its silence goes on, and now has a reason."""
        if (loop := self._loops.get(name)) is not None:
            loop.idle, loop.reason = False, reason
            if loop.failing is None:
                loop.failing = monotonic()

    def report(self) -> HealthReport:
        """The verdict, and each loop's silence in seconds."""
        now = monotonic()
        loops = {name: loop.report(now) for name, loop in self._loops.items()}
        alive = self._phase in ("starting", "stopped") or all(
            now - loop.last <= loop.fatal_after for loop in self._loops.values()
        )
        status: HealthStatus
        if self._phase != "working":
            status = self._phase
        else:
            status = "ok" if alive and all(entry["ok"] for entry in loops.values()) else "failing"
        return HealthReport(status, alive, {"loops": loops})
