"""What crosses the line between the core and a broker: plain records, bytes and durations.

A broker stores and moves jobs; it knows neither tasks nor serializers. So everything here is an id,
a name, a number or opaque bytes. Clients send *durations* (milliseconds from the store's now),
never instants, because only the store's clock counts; the one exception is a date the user gave.
All instants are integers: milliseconds since the Unix epoch by the store's clock.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

Status: TypeAlias = Literal[
    "pending", "scheduled", "running", "retrying", "completed", "failed", "cancelled", "dead"
]
STATUSES: Final[tuple[Status, ...]] = (
    "pending",
    "scheduled",
    "running",
    "retrying",
    "completed",
    "failed",
    "cancelled",
    "dead",
)
FINISHED: Final[frozenset[Status]] = frozenset({"completed", "failed", "cancelled", "dead"})

Token: TypeAlias = bytes
"""Proof of one delivery of one job to one worker, made by the broker in ``claim``."""

MAX_BATCH: Final = 500
"""No call of the contract carries more items than this."""

PRIORITY_HEAD_START_MS: Final = 60_000
"""One step of priority passes ordinary jobs that are up to this much older."""


class NewJob(NamedTuple):
    """A job to store.

    ``id`` is a UUID in canonical text form, made by the client. ``policy`` (retries, time-outs)
    is kept with the job's record for as long as that lives; ``body`` (arguments and headers) is
    dropped when the job completes, and kept for the other ends because a requeue needs it.
    """

    id: str
    queue: str
    task: str
    policy: bytes
    body: bytes
    priority: int = 0
    delay_ms: int = 0
    at_ms: int | None = None
    """A date given by the user; counts instead of ``delay_ms``."""
    check_exists: bool = False
    """The id was given by the caller: refuse it while it is live or its record is kept."""


class Added(NamedTuple):
    """What became of one ``NewJob``.

    ``new``: stored. ``already``: this numbered batch had been applied before, as good as ``new``.
    ``exists``: refused, the id is taken.
    """

    status: Literal["new", "already", "exists"]
    at_ms: int
    """The store's clock when it answered."""


class Delivery(NamedTuple):
    """One hand-out of a job to a worker."""

    id: str
    queue: str
    task: str
    token: Token
    policy: bytes
    body: bytes
    note: bytes | None
    """What the core wrote with the last settlement (last error, ...); opaque to the store."""
    number: int
    """Counts hand-outs from 1 and never goes back, not even after a requeue."""
    retries: int
    crashes: int
    priority: int
    quarantined: bool
    enqueued_ms: int
    due_ms: int
    """When this delivery became due; the wait is ``claimed_ms - due_ms``."""
    claimed_ms: int


class Claimed(NamedTuple):
    """Answer of ``claim``."""

    jobs: Sequence[Delivery]
    more: bool = False
    """Ready jobs remain that a claim could have taken; without a job in hand, that the next claim
    may find some."""
    due_in_ms: int | None = None
    """Time until the next scheduled job of these queues is due; None when there is none."""


SettleKind: TypeAlias = Literal[
    "completed", "failed", "cancelled", "dead", "retry", "snooze", "release"
]


class Settlement(NamedTuple):
    """How one delivery ends. The first four kinds finish the job, the last three give it back.

    ``retry``: ``retries + 1``, due after ``delay_ms``. ``snooze``: the same, retries unchanged.
    ``release``: the delivery did not happen; with ``delay_ms`` 0 the job returns to the place it
    had, in front of younger ones.
    """

    token: Token
    kind: SettleKind
    delay_ms: int = 0
    result: bytes | None = None
    content_type: str | None = None
    result_ttl_ms: int | None = None
    """How long the caller wants the record of a saved result; a store may keep it longer."""
    note: bytes | None = None
    """Replaces the stored note; None leaves it."""


Settled: TypeAlias = Literal["accepted", "already", "stale"]
"""``already``: this token ended its delivery before (a re-send). ``stale``: nothing was changed."""


class Renewed(NamedTuple):
    """Answer of ``renew``: tokens that no longer own their job, and those asked to stop."""

    lost: Sequence[Token] = ()
    cancelled: Sequence[Token] = ()


class Hint(NamedTuple):
    """Either ``cancel`` names a delivery to stop, or there may be work in ``queue`` (None: any)."""

    queue: str | None = None
    cancel: Token | None = None


class Upkeep(NamedTuple):
    """What one call of ``upkeep`` did."""

    promoted: int = 0
    rescued: int = 0
    died: int = 0
    """Of the rescued: jobs that ended ``dead`` because they crashed too often."""
    trimmed: int = 0
    more: bool = False
    """The budget was used up: call again at once."""


class JobInfo(NamedTuple):
    """What the store knows of a job, live or finished."""

    id: str
    queue: str
    task: str
    status: Status
    policy: bytes
    body: bytes | None
    note: bytes | None
    priority: int
    delivery: int
    retries: int
    crashes: int
    enqueued_ms: int
    run_at_ms: int
    started_ms: int | None = None
    completed_ms: int | None = None
    worker_id: str | None = None
    """The worker of the current or last delivery."""
    result: bytes | None = None
    content_type: str | None = None
    quarantined: bool = False
    cancel_asked: bool = False


class Filter(NamedTuple):
    """Which jobs ``find`` and ``delete_where`` mean; None matches everything."""

    queue: str | None = None
    status: frozenset[Status] | None = None
    task: str | None = None
    finished_for_ms: int | None = None
    """Only jobs that finished at least this long ago."""


class Page(NamedTuple):
    """A slice of a listing; pass ``cursor`` to get the next one, None at the end."""

    jobs: Sequence[JobInfo]
    cursor: str | None


class QueueStats(NamedTuple):
    """Counts of one queue by status, and the age in seconds of its oldest due job.

    ``pending`` includes the ``quarantined``. ``oldest_due`` is None when no job is due.
    """

    queue: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    retrying: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    dead: int = 0
    quarantined: int = 0
    oldest_due: float | None = None
    paused: bool = False


class WorkerInfo(NamedTuple):
    """A worker process as it registers itself."""

    id: str
    """UUID of this process start; also the owner of its deliveries."""
    hostname: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    version: str
    running: int = 0
    uptime: float = 0.0
    """Seconds since it started."""
    seen_ago: float = 0.0
    """Seconds since its last beat; filled in by the store."""


CancelAnswer: TypeAlias = Literal["cancelled", "asked", "finished", "absent"]
"""``cancelled``: at once. ``asked``: it runs, its worker will stop it. The others: too late."""


class Capabilities(NamedTuple):
    """What a broker can do; the core degrades, or refuses an option, by these."""

    durable: bool = True
    """Jobs outlive the processes that made them."""
    multi_process: bool = True
    """Several processes can share the store."""
    server_time: bool = True
    """The store has a clock of its own, independent of its clients' hosts."""
    transactional_batches: bool = True
    """A batch with several queues is stored whole or not at all."""
    cancel: bool = True
    requeue: bool = True
    find: bool = True
    delete: bool = True
    pause: bool = True
    registry: bool = True
    namespaces: bool = False
    """``use_namespace`` keeps apart what shares the store."""
    trio: bool = False
    """It runs on trio as well as on asyncio."""
    max_batch: int = MAX_BATCH
    """Items per claim, settle and look-up."""
    max_enqueue: int = MAX_BATCH
    """Jobs one ``enqueue`` takes; large where a transaction can hold a whole ``enqueue_many``."""
