"""``Job``: what an enqueue returns and a look-up finds; the record's fields and how to wait."""

from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import anyio

from aioq._clock import from_ms
from aioq._records import FINISHED, CancelAnswer, JobInfo, NewJob, Status
from aioq._wire import (
    Body,
    NewerEnvelope,
    Note,
    Policy,
    Undecodable,
    decode_body,
    decode_note,
    decode_policy,
    encode_body,
)
from aioq.errors import (
    AioqError,
    JobCancelled,
    JobFailed,
    JobNotFound,
    PayloadTooLarge,
    ResultNotSaved,
    SerializationError,
)

__all__ = ["Draft", "Job", "JobReader", "JobStore"]

R_co = TypeVar("R_co", covariant=True)


class JobStore(Protocol):
    """The part of a broker that a job handle uses."""

    @property
    def url(self) -> str: ...
    async def find_info(self, job_id: str) -> JobInfo | None: ...
    async def wait_finished(self, job_id: str) -> JobInfo | None: ...
    async def ask_cancel(self, job_id: str) -> CancelAnswer: ...


class JobReader(Protocol):
    """Decodes what a serializer wrote; typed where the task is known."""

    def read_arguments(self, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def read_result(self, data: bytes, content_type: str | None) -> Any: ...


class Draft(NamedTuple):
    """What an unsent job needs besides its fields to become a record."""

    policy: bytes
    delay_ms: int = 0
    own_id: bool = False
    """The caller chose the id."""
    connection: object | None = None
    """The caller's own; the job is stored in its transaction."""


class Job(Generic[R_co]):
    """One job: a typed handle whose fields are what was known when it was last read.

    ``await job.refresh()`` reads them again. A job made by ``task.job(...)`` is unsent until
    ``app.enqueue_many`` takes it; its ``enqueued_at`` is None.

    Attributes:
        id: UUID in text form (version 7 unless the caller gave one).
        task_name: ``{module}.{qualname}`` of its function, or the task's ``name=``.
        queue: the queue it was sent to.
        status: ``pending``, ``scheduled`` (delayed, not due yet), ``running``, ``retrying``
            (failed, waits for its next attempt), ``completed``, ``failed`` (its task gave up),
            ``cancelled`` or ``dead`` (the system gave up).
        retries: retries so far.
        max_retries: how many there may be.
        retry_delay: seconds before the first retry.
        priority: each step passes ordinary jobs that are up to a minute older.
        worker_id: the worker of its current or last attempt.
    """

    __slots__ = (
        "_arguments",
        "_body",
        "_completed_ms",
        "_draft",
        "_enqueued_ms",
        "_note",
        "_policy",
        "_reader",
        "_result",
        "_run_at_ms",
        "_started_ms",
        "_store",
        "_tried",
        "crashes",
        "id",
        "priority",
        "queue",
        "retries",
        "status",
        "task_name",
        "worker_id",
    )

    def __init__(
        self,
        *,
        id: str,
        task_name: str,
        queue: str,
        priority: int,
        policy: Policy,
        reader: JobReader,
        body: Body | bytes | None,
        arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
        run_at_ms: int | None = None,
        draft: Draft | None = None,
    ) -> None:
        """Made by ``task.job(...)``, ``task.enqueue(...)`` and ``broker.get_job(...)``."""
        self.id = id
        self.task_name = task_name
        self.queue = queue
        self.priority = priority
        self.status: Status = "pending"
        self.retries = 0
        self.crashes = 0
        self.worker_id: str | None = None
        self._policy = policy
        self._reader = reader
        self._body = body
        self._arguments = arguments
        self._note: bytes | None = None
        self._result: tuple[bytes, str | None] | None = None
        self._enqueued_ms: int | None = None
        self._run_at_ms = run_at_ms
        self._started_ms: int | None = None
        self._completed_ms: int | None = None
        self._store: JobStore | None = None
        self._draft = draft
        self._tried = False
        """It was handed over before: its store may have it, or its record."""

    @classmethod
    def from_info(cls, info: JobInfo, *, reader: JobReader, store: JobStore) -> "Job[Any]":
        """The job as the store describes it (for brokers' user-facing methods)."""
        job: Job[Any] = cls(
            id=info.id,
            task_name=info.task,
            queue=info.queue,
            priority=info.priority,
            policy=_readable_policy(info.policy),
            reader=reader,
            body=info.body,
        )
        job._store = store
        job._load(info)
        return job

    def _load(self, info: JobInfo) -> None:
        self.status = info.status
        self.retries = info.retries
        self.crashes = info.crashes
        self.worker_id = info.worker_id
        self._note = info.note
        self._result = None if info.result is None else (info.result, info.content_type)
        self._enqueued_ms = info.enqueued_ms
        self._run_at_ms = info.run_at_ms
        self._started_ms = info.started_ms
        self._completed_ms = info.completed_ms

    def to_record(self, max_payload: int) -> NewJob:
        """An unsent job as a broker stores it (for the app).

        Raises:
            PayloadTooLarge: its arguments exceed ``max_payload`` bytes.
            SerializationError: a header is not text.
            AioqError: it was looked up, not made by ``task.job(...)``.
        """
        draft, body = self._draft, self._read_body()
        if draft is None or body is None:
            raise AioqError(f"{self} cannot be sent again: make a new one with task.job(...)")
        packed = encode_body(body.content_type, body.arguments, body.headers)
        if len(packed) > max_payload:
            raise PayloadTooLarge(
                f"the arguments of {self} take {len(packed):,} bytes, the limit is "
                f"{max_payload:,}: store the data elsewhere and pass a reference, or raise the "
                f"broker's max_payload"
            )
        again, self._tried = self._tried, True
        return NewJob(
            id=self.id,
            queue=self.queue,
            task=self.task_name,
            policy=draft.policy,
            body=packed,
            priority=self.priority,
            delay_ms=draft.delay_ms,
            at_ms=self._run_at_ms,
            check_exists=again or draft.own_id,
        )

    @property
    def connection(self) -> object | None:
        """Whose transaction an unsent job is to be stored in (for the app)."""
        return None if self._draft is None else self._draft.connection

    def enclose(self, connection: object) -> None:
        """Store this unsent job in the transaction of ``connection`` (for the app)."""
        if self._draft is not None:
            self._draft = self._draft._replace(connection=connection)

    def accepted(self, store: JobStore, at_ms: int) -> None:
        """The store has taken this job (for the app)."""
        self._store = store
        self._enqueued_ms = at_ms
        if self.connection is not None:
            self.enclose(None)
        if self._run_at_ms is None:
            self._run_at_ms = at_ms + (self._draft.delay_ms if self._draft else 0)
        self.status = "scheduled" if self._run_at_ms > at_ms else "pending"

    # -- fields ---------------------------------------------------------------------------------

    @property
    def max_retries(self) -> int:
        return self._policy.max_retries

    @property
    def retry_delay(self) -> float:
        return self._policy.retry_delay

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments without ``ctx``; empty on a job looked up after it completed."""
        return self._read_arguments()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments; empty on a job looked up after it completed."""
        return self._read_arguments()[1]

    @property
    def headers(self) -> dict[str, str]:
        """Text that travels beside the arguments (trace context, ...)."""
        body = self._read_body()
        return {} if body is None else body.headers

    @property
    def result(self) -> R_co | None:
        """The saved result; None until it completed, or where results are not saved.

        Raises:
            SerializationError: the stored bytes do not fit the task's return annotation.
        """
        if self._result is None:
            return None
        value: R_co = self._reader.read_result(*self._result)
        return value

    @property
    def error(self) -> str | None:
        """The last error as one line, ``"ValueError: boom"``."""
        note = self._read_note()
        if self.status == "dead" and not note.final:
            return f"its worker died {self.crashes} times while it ran"
        return note.error

    @property
    def traceback(self) -> str | None:
        """The traceback of the last error, shortened where it is very long."""
        return self._read_note().traceback

    @property
    def enqueued_at(self) -> datetime | None:
        """When the store accepted it (its clock, UTC); None while unsent."""
        return None if self._enqueued_ms is None else from_ms(self._enqueued_ms)

    @property
    def run_at(self) -> datetime | None:
        """When it is, or was last, due (UTC)."""
        return None if self._run_at_ms is None else from_ms(self._run_at_ms)

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt was handed to a worker (UTC)."""
        return None if self._started_ms is None else from_ms(self._started_ms)

    @property
    def completed_at(self) -> datetime | None:
        """When it ended, in whatever way (UTC)."""
        return None if self._completed_ms is None else from_ms(self._completed_ms)

    def _read_note(self) -> Note:
        return decode_note(self._note)

    def _read_body(self) -> Body | None:
        if isinstance(self._body, bytes):
            try:
                self._body = decode_body(self._body)
            except (NewerEnvelope, Undecodable) as exc:
                raise SerializationError(f"job {self.id}: {exc}") from exc
        return self._body

    def _read_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._arguments is None:
            body = self._read_body()
            if body is None:
                return (), {}
            self._arguments = self._reader.read_arguments(body)
        return self._arguments

    # -- what can be done with it ---------------------------------------------------------------

    async def refresh(self) -> "Job[R_co]":
        """Read the fields again, in place.

        Raises:
            JobNotFound: the store does not know the job (any more).
            BrokerUnavailable: the store is out of reach.
        """
        self._load(self._found(await self._sent_to().find_info(self.id)))
        return self

    async def finished(self, timeout: float | None = None) -> "Job[R_co]":
        """Wait until the job has ended, in whatever way, and return it with fresh fields.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it has not ended in time.
            JobNotFound: the store does not know the job (any more).
            BrokerUnavailable: the store is, or came, out of reach; it can be waited for again.
        """
        store = self._sent_to()
        if self.status not in FINISHED or self._completed_ms is None:
            try:
                with anyio.fail_after(timeout):
                    info = await store.wait_finished(self.id)
            except TimeoutError:
                raise TimeoutError(
                    f"{self} has not finished after {timeout} s (does a worker serve queue "
                    f"{self.queue!r} of {store.url}?)"
                ) from None
            self._load(self._found(info))
        return self

    async def wait(self, timeout: float | None = None) -> R_co:
        """Wait for the saved result and return it.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            ResultNotSaved: at once, when the job does not save its result (``save_result``).
            JobFailed: it ended ``failed`` or ``dead``.
            JobCancelled: it was cancelled.
            JobNotFound: the store does not know the job (any more).
            TimeoutError: it has not ended in time.
            BrokerUnavailable: the store is, or came, out of reach; it can be waited for again.
            SerializationError: the stored result does not fit the task's return annotation.
        """
        if not self._policy.save_result:
            raise ResultNotSaved(
                f"{self} does not save its result: set save_result=True on the task, or use "
                f"job.finished() to wait for its end",
                job_id=self.id,
            )
        await self.finished(timeout)
        if self.status == "cancelled":
            raise JobCancelled(f"{self} was cancelled", job_id=self.id)
        if self.status != "completed":
            raise JobFailed(
                f"{self} ended {self.status}: {self.error or 'no reason was recorded'}",
                job_id=self.id,
                status=self.status,
                error=self.error,
                traceback=self.traceback,
            )
        if self._result is None:
            raise ResultNotSaved(
                f"{self} completed without a saved result: set save_result=True on the task",
                job_id=self.id,
            )
        value: R_co = self._reader.read_result(*self._result)
        return value

    async def cancel(self) -> bool:
        """Cancel the job: at once while it waits, else by stopping it in its worker.

        Returns:
            False when it had finished before; nothing changed then.

        Raises:
            JobNotFound: the store does not know the job (any more).
            BrokerUnavailable: the store is out of reach; it may be cancelled all the same.
        """
        answer = await self._sent_to().ask_cancel(self.id)
        if answer == "absent":
            self._found(None)
        if answer == "cancelled":
            self.status = "cancelled"
        return answer != "finished"

    def _sent_to(self) -> JobStore:
        if self._store is None:
            raise AioqError(f"{self} was never sent: pass it to app.enqueue_many([...]) first")
        return self._store

    def _found(self, info: JobInfo | None) -> JobInfo:
        if info is None:
            raise JobNotFound(
                f"{self} is unknown to the store: it was deleted, or its record has expired",
                job_id=self.id,
            )
        return info

    def __str__(self) -> str:
        return f"job {self.id} of task {self.task_name!r}"

    def __repr__(self) -> str:
        return f"<Job {self.id} task={self.task_name!r} queue={self.queue!r} {self.status}>"


def _readable_policy(data: bytes) -> Policy:
    """A policy that cannot be read costs its display only: the worker makes the verdict."""
    try:
        return decode_policy(data)
    except Undecodable:
        return Policy()
