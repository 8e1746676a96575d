"""``offline`` and ``Jobs``: an app under test, with its jobs in memory and its time at hand."""

from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar, overload

import anyio

from aioq import _loop
from aioq._app import Aarq
from aioq._clock import duration_ms, from_ms
from aioq._job import Job
from aioq._records import JobInfo
from aioq._task import TaskDef, TaskReader
from aioq._wire import preview
from aioq.errors import ConfigurationError, InvalidOption, JobFailed
from aioq.testing._offline import Errors, OfflineBroker, Sent
from aioq.worker import Worker, WorkerOptions

__all__ = ["Jobs", "offline"]

R = TypeVar("R")

MOST_ATTEMPTS = 10_000
LISTED = 20
"""Jobs that a message names."""
TOLERANCE_MS = 1_000
"""Between the delay that was asked for and the date that the code under test computed for it."""


@contextmanager
def offline(app: Aarq) -> Generator["Jobs", None, None]:
    """Keep what ``app`` enqueues in memory until the block is left, and run it when told to.

    The app's own broker is neither opened nor called. Tasks, middleware, serializer and lifespan
    are the app's; at the end the app is as it was before, and what was not run is dropped.
    """
    broker, errors = OfflineBroker(), Errors()
    with app.lent(broker, errors):
        yield Jobs(app, broker, errors)


class Jobs:
    """What an app under test enqueues, and a worker that runs it when told to.

    Nothing runs by itself: ``run`` and ``drain`` start the app's worker and return when it has
    nothing left to do. Time is the host's plus what ``advance`` and ``drain`` have added; delays,
    retries and dates go by it, ``sleep`` and timeouts in tasks do not. Nothing expires.
    """

    def __init__(self, app: Aarq, broker: OfflineBroker, errors: Errors) -> None:
        """Made by ``offline``."""
        self._app = app
        self._broker = broker
        self._errors = errors

    # -- what was enqueued ------------------------------------------------------------------------

    @overload
    def enqueued(self, task: None = None) -> list[Job[Any]]: ...
    @overload
    def enqueued(self, task: TaskDef[..., R]) -> list[Job[R]]: ...
    def enqueued(self, task: TaskDef[..., Any] | None = None) -> list[Job[Any]]:
        """All jobs, or those of one task, in the order in which they were enqueued.

        They are read now: status, error and result are those of this moment, and arguments are
        kept also when a job has completed. Jobs that were deleted are left out.
        """
        return [
            self._job(sent, info)
            for sent, info in self._found()
            if task is None or sent.job.task == task.name
        ]

    def assert_enqueued(
        self,
        task: TaskDef[..., R],
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: float | timedelta | None = None,
        priority: int | None = None,
        count: int | None = None,
    ) -> Job[R]:
        """Fail unless a job like this was enqueued; what is left out may be anything.

        Args:
            task: its task.
            args: positional arguments, without ``ctx``. Together with ``kwargs`` they are the whole
                call: ``f(1, y=2)`` equals ``f(1, 2)``, and defaults count. ``unittest.mock.ANY``
                stands for any value.
            kwargs: keyword arguments.
            queue: its queue.
            delay: from its enqueue until it was due, in seconds or as timedelta; 0 for at once. A
                ``run_at`` counts as the delay it came to, to the second.
            priority: its priority.
            count: how many such jobs there must be; None for at least one.

        Returns:
            The last of them.

        Raises:
            AssertionError: there is none, or another number; the message lists what there is.
            InvalidArguments: the task cannot be called like this.
            InvalidOption: ``count`` is below 1, or ``delay`` negative.
        """
        if count is not None and count < 1:
            raise InvalidOption(
                "count must be at least 1; for none write 'assert not jobs.enqueued(task)'"
            )
        call = None
        if args is not None or kwargs is not None:
            call = task.signature.arguments(tuple(args or ()), dict(kwargs or {}))
        found: list[Job[R]] = []
        for sent, info in self._found():
            if sent.job.task != task.name or (queue is not None and sent.job.queue != queue):
                continue
            if priority is not None and sent.job.priority != priority:
                continue
            if delay is not None and not _near(sent.delay_ms, delay, sent.job.at_ms is not None):
                continue
            job = self._job(sent, info)
            if call is None or call == task.signature.arguments(job.args, job.kwargs):
                found.append(job)
        if found and count in (None, len(found)):
            return found[-1]
        what = f"of task {task.name!r}{_wanted(args, kwargs, queue, delay, priority)}"
        if count is None:
            message = f"no job {what} was enqueued"
        else:
            message = f"{len(found)} jobs {what} were enqueued instead of {count}"
        raise AssertionError(f"{message}{self._listing()}")

    def _found(self) -> Iterator[tuple[Sent, JobInfo]]:
        for sent, info in self._broker.found():
            if info is not None:
                yield sent, info

    def _job(self, sent: Sent, info: JobInfo) -> Job[Any]:
        info = info._replace(body=sent.job.body)
        task = self._app.tasks.get(info.task)
        if task is None:
            return self._broker.as_job(info)
        return Job.from_info(info, reader=TaskReader(task.signature, self._app), store=self._broker)

    def _listing(self) -> str:
        lines = [
            f"\n  {_call(job)}{_details(sent)}, {job.status}"
            for sent, job in ((sent, self._job(sent, info)) for sent, info in self._found())
        ]
        if not lines:
            return "; nothing was"
        left = len(lines) - LISTED
        more = f"\n  and {left} more" if left > 0 else ""
        return f"; enqueued were:{''.join(lines[-LISTED:])}{more}"

    # -- time -------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time by which jobs are due (UTC)."""
        return from_ms(self._broker.clock())

    def advance(self, by: float | timedelta) -> None:
        """Move the time on by seconds or a timedelta. Nothing runs yet: ``run`` does it.

        Raises:
            InvalidOption: the time would go back.
        """
        self._broker.clock.advance(duration_ms("by", by))

    # -- a worker ---------------------------------------------------------------------------------

    async def run(self, *, check: bool = True) -> list[Job[Any]]:
        """Run all jobs that are due, of every queue, and those that they enqueue in turn.

        Args:
            check: raise when a job ends failed or dead.

        Returns:
            The jobs that were attempted, with fresh fields: one that waits for its retry is
            ``retrying``.

        Raises:
            JobFailed: after all have run; its cause is what the task raised.
            AssertionError: the jobs do not come to an end.
        """
        return await self._work(jumping=False, check=check)

    async def drain(self, *, check: bool = True) -> list[Job[Any]]:
        """As ``run``, until no job waits: the time moves on to each retry and each delay."""
        return await self._work(jumping=True, check=check)

    def run_sync(self, *, check: bool = True) -> list[Job[Any]]:
        """``run`` for tests without an event loop.

        Raises:
            ConfigurationError: this thread runs an event loop.
        """
        return _in_a_loop(partial(self.run, check=check), "run")

    def drain_sync(self, *, check: bool = True) -> list[Job[Any]]:
        """``drain`` for tests without an event loop.

        Raises:
            ConfigurationError: this thread runs an event loop.
        """
        return _in_a_loop(partial(self.drain, check=check), "drain")

    async def _work(self, *, jumping: bool, check: bool) -> list[Job[Any]]:
        broker = self._broker
        broker.start(jumping=jumping, most=MOST_ATTEMPTS)
        self._errors.by_id.clear()
        await Worker(self._app, WorkerOptions(burst=True)).run()
        if broker.endless:
            raise AssertionError(self._endless(broker.attempts))
        attempted = [
            self._job(sent, info) for sent, info in self._found() if sent.job.id in broker.attempts
        ]
        if check:
            self._raise_failure([job for job in attempted if job.status in ("failed", "dead")])
        return attempted

    def _endless(self, attempts: Counter[str]) -> str:
        by_task = Counter[str]()
        for sent, _ in self._broker.found():
            by_task[sent.job.task] += attempts[sent.job.id]
        most = ", ".join(f"{task} {number:,} times" for task, number in by_task.most_common(3))
        return (
            f"the jobs do not come to an end: after {attempts.total():,} attempts ({most}) some "
            f"are still due. Does a task enqueue itself, or retry for ever?"
        )

    def _raise_failure(self, failed: list[Job[Any]]) -> None:
        if not failed:
            return
        job = failed[0]
        failure = JobFailed(
            f"{job} ended {job.status}: {job.error}",
            job_id=job.id,
            status=job.status,
            error=job.error,
            traceback=job.traceback,
        )
        for other in failed[1:LISTED]:
            failure.add_note(f"{other} ended {other.status}: {other.error}")
        raise failure from self._errors.by_id.get(job.id)

    def __repr__(self) -> str:
        return f"<Jobs {len(self._broker.sent)} enqueued>"


def _in_a_loop(work: Callable[[], Awaitable[list[Job[Any]]]], name: str) -> list[Job[Any]]:
    if _loop.is_running():
        raise ConfigurationError(
            f"{name}_sync() would block the event loop that runs in this thread: use "
            f"'await jobs.{name}()'"
        )
    return anyio.run(work)


def _near(delay_ms: int, wanted: float | timedelta, is_date: bool) -> bool:
    return abs(delay_ms - duration_ms("delay", wanted)) <= (TOLERANCE_MS if is_date else 0)


# -- words for messages ---------------------------------------------------------------------------


def _call(job: Job[Any]) -> str:
    return f"{job.task_name}{_arguments(job.args, job.kwargs)}"


def _arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    given = [*map(preview, args), *(f"{name}={preview(value)}" for name, value in kwargs.items())]
    return f"({', '.join(given)})"


def _details(sent: Sent) -> str:
    job = sent.job
    delay = f", delay {sent.delay_ms / 1000:g} s" if sent.delay_ms else ""
    priority = f", priority {job.priority}" if job.priority else ""
    return f" in queue {job.queue!r}{delay}{priority}"


def _wanted(
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    queue: str | None,
    delay: float | timedelta | None,
    priority: int | None,
) -> str:
    words: list[str] = []
    if args is not None or kwargs is not None:
        words.append(f"called as {_arguments(args or (), kwargs or {})}")
    if queue is not None:
        words.append(f"in queue {queue!r}")
    if delay is not None:
        words.append(f"with delay {duration_ms('delay', delay) / 1000:g} s")
    if priority is not None:
        words.append(f"with priority {priority}")
    return "".join(f" {word}" for word in words)
