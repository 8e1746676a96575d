"""The numbered promises, which test covers which, and what a test needs of the broker.

The numbers are stable names that docs and reports refer to; they are not an order, and a number is
never used again for something else. Numbers missing here belong to features of a later release.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

__all__ = ["CASES", "ELSEWHERE", "coverage", "covered_by", "covers", "needs", "needs_of", "table"]

Test = TypeVar("Test", bound=Callable[..., object])

CASES: Final[dict[int, str]] = {
    1: "a completed job leaves the live places and its record can be read",
    2: "500 jobs in one call are each claimed exactly once",
    3: "an empty claim returns at once",
    4: "bodies come back byte for byte",
    5: "an id given by the caller is refused while it is live or its record is kept",
    6: "a batch sent again is applied once, also when its jobs are finished and gone",
    7: "a claim never returns more jobs than asked",
    8: "a claim stops above max_bytes, but returns at least one job",
    9: "equal priorities are first in, first out",
    10: "a priority is a head start of a minute per step",
    11: "a low priority is not starved by a constant flow of high ones",
    12: "queues are isolated from each other",
    13: "queues are served in the order given",
    14: "a paused queue takes jobs and gives none until it is resumed",
    15: "a delayed job cannot be claimed before it is due",
    16: "a due job is promoted by upkeep and by claim",
    17: "10 000 jobs due at once are all promoted, and no call is unbounded",
    18: "claim tells the time until the next job is due",
    19: "whoever waits for hints learns of new work in time",
    20: "a date far in the future survives",
    21: "a claimed job cannot be claimed again",
    22: "an expired lease is rescued and charged as a crash, not as a retry",
    23: "a renewed lease is not rescued",
    24: "renewing what is not owned answers lost and creates nothing",
    25: "a completion after a newer claim is stale and leaves the newer delivery alone",
    26: "a retry or failure after a newer claim is stale",
    27: "a completion after the rescue, before a newer claim, is accepted once",
    28: "any other outcome at that moment is ignored",
    29: "the same delivery number of another worker is stale",
    30: "an outcome sent twice is accepted, then already",
    31: "a mixed batch is answered exactly, item by item",
    32: "two rescuers at once rescue a job once",
    33: "of rescue and settle at once exactly one wins",
    34: "a claim whose answer was lost comes back after the lease",
    35: "a released job returns to the front, with nothing counted",
    36: "a full batch of leases is renewed in one call",
    37: "a client whose clock is wrong changes nothing",
    38: "a retry waits for its delay as retrying, then runs again",
    39: "a failed job ends failed and keeps its note",
    40: "a snooze counts neither as retry nor as crash",
    41: "a job is dead only after a crash alone in quarantine",
    42: "the first crash returns a job at once, the second quarantines it",
    43: "a requeued job starts afresh with a higher delivery number",
    46: "a waiting job is cancelled at once, wherever it waits",
    47: "the cancel of a running job reaches its worker",
    48: "a job whose cancel was asked is not given back",
    49: "a completion that beats the cancel stays a completion",
    50: "a crashed job whose cancel was asked ends cancelled",
    51: "of cancel and claim at once exactly one wins",
    64: "a saved result can be read for as long as was asked",
    65: "waiting for a job wakes when it finishes, and at once when it has",
    66: "counts equal a full listing",
    67: "paging is stable while jobs move",
    68: "old records are trimmed in bounded calls",
    73: "a call cancelled half way loses nothing and breaks nothing",
    77: "random operations leave the same visible state as the reference",
    78: "the places add up to the jobs enqueued",
    79: "every end leaves a record with status and times, the result only if saved",
    82: "a record without a saved result goes after its time, never before",
    83: "what is live has no time to live",
    84: "a running job cannot be deleted",
    85: "the first copy of a batch that arrives after its re-send changes nothing",
    86: "a batch with an item that cannot be stored is rejected whole",
    87: "an id is found in whatever queue its job is",
    88: "an outage of the store charges no crash to the living",
    89: "a job that its own process claims again gets the crash taken back",
    90: "of renew and settle at once nothing live is reported lost",
    91: "the lease client renews while the event loop is blocked",
    92: "a poison job dies alone",
    98: "namespaces that share a store never meet",
    99: "a token of an earlier job with the same id is stale",
}

ELSEWHERE: Final[dict[int, str]] = {
    45: "worker: error texts",
    69: "processes: kill -9",
    70: "servers: restart",
    71: "servers: network faults",
    72: "processes: SIGSTOP",
    74: "servers: script cache and prepared statements",
    75: "servers: out of memory",
    76: "servers: versions side by side",
    80: "back end: lifetime of records",
    81: "back end: number of records",
    93: "worker: unknown task and newer envelope",
    94: "worker: graceful stop",
    95: "core: Job.wait",
    96: "core: decoding of results",
    97: "back end: processes that open and close one file",
}


def covers(*promises: int | str) -> Callable[[Test], Test]:
    """Say which promises a test proves: case numbers, or broker methods for their docstrings."""
    if unknown := [item for item in promises if isinstance(item, int) and item not in CASES]:
        raise ValueError(f"there is no case {unknown[0]}")

    def mark(test: Test) -> Test:
        test.__dict__["aioq_covers"] = promises
        return test

    return mark


def needs(*capabilities: str) -> Callable[[Test], Test]:
    """Skip a test, naming the capability, where the broker declares that it lacks one of these."""

    def mark(test: Test) -> Test:
        test.__dict__["aioq_needs"] = capabilities
        return test

    return mark


def covered_by(test: Callable[..., Any]) -> tuple[int | str, ...]:
    """The promises that a test proves."""
    found: tuple[int | str, ...] = getattr(test, "aioq_covers", ())
    return found


def needs_of(test: Callable[..., Any]) -> tuple[str, ...]:
    """The capabilities that a test needs."""
    found: tuple[str, ...] = getattr(test, "aioq_needs", ())
    return found


def each_test(suite: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(suite):
        test = getattr(suite, name)
        if name.startswith("test_") and callable(test):
            yield name, test


def coverage(*suites: type) -> dict[int | str, list[str]]:
    """Promise -> names of the tests that prove it."""
    found: dict[int | str, list[str]] = {78: ["(after each test)"]}
    for suite in suites:
        for name, test in each_test(suite):
            for promise in covered_by(test):
                found.setdefault(promise, []).append(name)
    return found


def table(*suites: type) -> str:
    """Which promises are proved by which test, as Markdown."""
    found = coverage(*suites)
    lines = ["| case | promise | proved by |", "|--:|---|---|"]
    for number, promise in sorted((CASES | ELSEWHERE).items()):
        tests = ", ".join(sorted(found.get(number, ["-"])))
        lines.append(f"| {number} | {promise} | {tests} |")
    return "\n".join(lines)
