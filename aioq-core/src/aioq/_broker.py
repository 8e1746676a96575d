"""``BaseBroker``: the contract every store keeps, with the methods for users written once on it."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from aioq._clock import duration_ms
from aioq._codec import Codec
from aioq._contract import BrokerContract
from aioq._job import Job
from aioq._loop import current_loop
from aioq._records import (
    FINISHED,
    STATUSES,
    CancelAnswer,
    Filter,
    JobInfo,
    QueueStats,
    Status,
    WorkerInfo,
)
from aioq._wire import Body
from aioq.errors import ConfigurationError, InvalidOption, JobNotFound

__all__ = ["BaseBroker", "JobPage", "check_loop"]

Self = TypeVar("Self", bound="BaseBroker")

PRUNE_BATCH = 1000


class BaseBroker(BrokerContract):
    """Where jobs are stored.

    The abstract methods are what a broker starts with; the others have a default that polls, or
    that says the broker does not offer the call (declare it in ``capabilities``). Every method may
    raise ``BrokerUnavailable`` (the caller tries again) and must never leave half of a move behind,
    also when the awaiting task is cancelled; all of it may still be applied then, where it was on
    its way to a server. Batches hold at most ``capabilities.max_batch`` items.

    Args:
        max_payload: largest size in bytes of a job's arguments, or of its saved result.
        max_crashes: a job that has killed its worker this often, the last time alone in
            quarantine, becomes ``dead``; at least 3.
    """

    def __init__(self, *, max_payload: int = 1_048_576, max_crashes: int = 3) -> None:
        super().__init__(max_payload=max_payload, max_crashes=max_crashes)
        self._codec = Codec()

    def bind(self, codec: Codec) -> None:
        """Called by the app: results and arguments are read with its serializers."""
        self._codec = codec

    async def __aenter__(self: Self) -> Self:
        check_loop(self)
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def get_job(self, job_id: str) -> Job[Any] | Any:
        """The job with this id, live or finished; None when the store does not know it.

        Its result and arguments come in the serializer's own types; ``task.get_job`` decodes them
        by the task's annotations.
        """
        info = await self.find_info(job_id)
        return None if info is None else self._to_job(info)

    async def list_jobs(
        self,
        *,
        queue: str | None = None,
        status: Status | Iterable[Status] | None = None,
        task: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> "JobPage":
        """A page of jobs, newest first; pass the page's ``cursor`` to get the next one.

        Args:
            queue: only this queue.
            status: only this status, or these.
            task: only the task of this name.
            limit: jobs per page.
            cursor: from the page before; None starts.

        Raises:
            InvalidOption: the limit, a status or the cursor is none.
        """
        if limit < 1:
            raise InvalidOption(f"limit must be at least 1, got {limit}")
        page = await self.find(Filter(queue, _statuses(status), task), limit, cursor)
        return JobPage([self._to_job(info) for info in page.jobs], page.cursor)

    async def queue_stats(self) -> Sequence[QueueStats]:
        """Counts by status for every known queue, ordered by name."""
        return await self.counts()

    async def list_workers(self) -> Sequence[WorkerInfo]:
        """The workers that are alive."""
        return await self.workers()

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job: at once while it waits, else by stopping it in its worker.

        Returns:
            False when it had finished before.

        Raises:
            JobNotFound: the store does not know it.
        """
        answer = await self.ask_cancel(job_id)
        if answer == "absent":
            raise JobNotFound(f"no job {job_id} is known to the store", job_id=job_id)
        return answer != "finished"

    async def retry_job(self, job_id: str) -> bool:
        """Put a failed, dead or cancelled job back to pending, with fresh retries.

        Returns:
            False when it is in another state.

        Raises:
            JobNotFound: the store does not know it.
        """
        (done,) = await self.requeue([job_id])
        if not done and await self.find_info(job_id) is None:
            raise JobNotFound(f"no job {job_id} is known to the store", job_id=job_id)
        return done

    async def delete_job(self, job_id: str) -> bool:
        """Remove a job or its record; False when it runs or is unknown."""
        (done,) = await self.delete([job_id])
        return done

    async def pause_queue(self, queue: str) -> None:
        """Stop handing out jobs of this queue; those that run go on."""
        await self.set_paused(queue, True)

    async def resume_queue(self, queue: str) -> None:
        """Undo ``pause_queue``."""
        await self.set_paused(queue, False)

    async def purge(self, queue: str, status: Status | Iterable[Status] | None = None) -> int:
        """Delete the jobs of a queue that do not run, waiting and finished, or only some.

        Returns:
            How many jobs were deleted.
        """
        return await self._delete_all(Filter(queue, _statuses(status)))

    async def prune(self, older_than: timedelta | float) -> int:
        """Delete the records of jobs that finished longer ago than this (seconds or timedelta).

        Returns:
            How many records were deleted.

        Raises:
            InvalidOption: the age is negative, longer than a century, or no duration.
        """
        where = Filter(status=FINISHED, finished_for_ms=duration_ms("older_than", older_than))
        return await self._delete_all(where)

    async def _delete_all(self, where: Filter) -> int:
        total = 0
        while deleted := await self.delete_where(where, PRUNE_BATCH):
            total += deleted
        return total

    # -- for job handles (``aioq._job.JobStore``) -------------------------------------------------

    async def find_info(self, job_id: str) -> JobInfo | None:
        """One record by id, as ``get``."""
        (info,) = await self.get([job_id])
        return info

    async def ask_cancel(self, job_id: str) -> CancelAnswer:
        """Cancel one job, as ``cancel``."""
        (answer,) = await self.cancel([job_id])
        return answer

    def _to_job(self, info: JobInfo) -> Job[Any]:
        return Job.from_info(info, reader=PlainReader(self._codec), store=self)


def check_loop(broker: BaseBroker) -> None:
    """Called before a broker is opened.

    Raises:
        ConfigurationError: it is called on trio, and this broker needs asyncio.
    """
    loop = current_loop()
    if not broker.capabilities.trio and not isinstance(loop, asyncio.AbstractEventLoop):
        raise ConfigurationError(
            f"{type(broker).__name__} needs asyncio and was opened on trio, where MemoryBroker "
            f"and SQLiteBroker work: start the program with asyncio.run"
        )


class JobPage(list[Job[Any]]):
    """A list of jobs, with the ``cursor`` of the next page (None at the end)."""

    def __init__(self, jobs: Iterable[Job[Any]], cursor: str | None) -> None:
        super().__init__(jobs)
        self.cursor = cursor


class PlainReader:
    """Reads arguments and results in the serializer's own types."""

    __slots__ = ("_codec",)

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def read_arguments(self, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self._codec.arguments(body)
        return tuple(args), kwargs

    def read_result(self, data: bytes, content_type: str | None) -> Any:
        return self._codec.loads(data, content_type)


def _statuses(
    status: Status | Collection[Status] | Iterable[Status] | None,
) -> frozenset[Status] | None:
    if status is None:
        return None
    chosen: frozenset[Any] = frozenset([status] if isinstance(status, str) else status)
    if unknown := chosen - set(STATUSES):
        raise InvalidOption(
            f"unknown status {sorted(unknown)[0]!r}; a status is one of {', '.join(STATUSES)}"
        )
    return chosen
