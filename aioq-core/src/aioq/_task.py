"""``TaskDef``: a function that can be enqueued."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from sys import modules
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import anyio.to_thread

from aioq._codec import Codec
from aioq._ids import new_job_id
from aioq._job import Draft, Job
from aioq._options import JobOptions, Schedule, TaskOptions, check_job_options
from aioq._signature import Signature
from aioq._wire import Body, encode_policy
from aioq.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Unpack

    from aioq._context import Context

__all__ = ["TaskDef", "TaskHome", "task_name_of"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class TaskHome(Protocol):
    """The part of an app that its tasks use."""

    @property
    def codec(self) -> Codec: ...
    async def send(self, jobs: Sequence[Job[Any]]) -> None: ...
    def send_sync(self, jobs: Sequence[Job[Any]]) -> None: ...
    async def look_up(self, job_id: str, reader: "TaskReader") -> Job[Any] | None: ...


class TaskDef(Generic[P, R_co]):
    """A registered task; made by ``@app.task``.

    Attributes:
        name: ``{module}.{qualname}``, or what ``name=`` said; a worker finds the function by it.
        fn: the bare function.
        task_options: the options in force for jobs made by this object.
    """

    def __init__(
        self,
        home: TaskHome,
        fn: Callable[..., Any],
        name: str,
        options: TaskOptions,
        *,
        signature: Signature | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Made by ``@app.task`` and ``task.options(...)``."""
        update_wrapper(self, fn)
        self.name = name
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(fn))
        self.signature = signature or Signature(fn, name)
        self.task_options = options
        self._home = home
        self._schedule = schedule or Schedule()
        self._policy = options.policy()
        self._packed_policy = encode_policy(self._policy)
        self._reader = TaskReader(self.signature, home)

    @property
    def queue(self) -> str:
        """The queue its jobs are sent to."""
        return self.task_options.queue

    if TYPE_CHECKING:

        async def __call__(
            self, ctx: "Context[Any] | dict[str, Any]", /, *args: P.args, **kwargs: P.kwargs
        ) -> R_co: ...

    else:

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            """Run the function here and now, without the queue (unit tests); a plain function runs
            in a thread."""
            if self.is_async:
                return self.fn(*args, **kwargs)
            return anyio.to_thread.run_sync(lambda: self.fn(*args, **kwargs))

    def options(self, **options: "Unpack[JobOptions]") -> "TaskDef[P, R_co]":
        """The same task with other options for the jobs made by it.

        Args:
            **options: ``queue``, ``delay`` (seconds or timedelta), ``run_at`` (aware datetime),
                ``priority``, ``retries``, ``retry_delay`` and ``timeout`` (seconds),
                ``save_result``, ``result_ttl`` (seconds), ``job_id`` (a UUID), ``connection`` (a
                connection or session to the broker's database: the job is stored in its
                transaction, by brokers that can; nothing is opened or committed).

        Raises:
            InvalidOption: an unknown name or a value out of range.
        """
        check_job_options(options)
        return TaskDef(
            self._home,
            self.fn,
            self.name,
            self.task_options.override(options),
            signature=self.signature,
            schedule=self._schedule.override(options),
        )

    def job(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """An unsent job, for ``app.enqueue_many``.

        Raises:
            InvalidArguments: the call does not fit the signature or its annotations.
            SerializationError: an argument cannot be serialised.
        """
        self.signature.bind(args, kwargs)
        codec = self._home.codec
        body = Body(codec.content_type, self.signature.pack(args, kwargs, codec), {})
        schedule = self._schedule
        return Job(
            id=schedule.job_id or new_job_id(),
            task_name=self.name,
            queue=self.task_options.queue,
            priority=self.task_options.priority,
            policy=self._policy,
            reader=self._reader,
            body=body,
            arguments=(args, kwargs),
            run_at_ms=schedule.at_ms,
            draft=Draft(
                self._packed_policy,
                schedule.delay_ms,
                schedule.job_id is not None,
                schedule.connection,
            ),
        )

    async def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """Enqueue a call of the task; returns when the store has it.

        Raises:
            InvalidArguments: the call does not fit the signature or its annotations.
            SerializationError: an argument cannot be serialised.
            PayloadTooLarge: the arguments exceed the broker's ``max_payload``.
            JobExists: the ``job_id`` given in the options is taken.
            EnqueueError: the store refused it, or did not answer; the message says which.
            NotSupported: the broker does not know the ``connection`` of the options.

        With ``connection``, errors of its driver are raised as they are.
        """
        job = self.job(*args, **kwargs)
        await self._home.send((job,))
        return job

    def enqueue_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """``enqueue`` for callers without an event loop; blocks until the store has the job.

        With ``connection`` it runs in the calling thread, on a connection without an event loop.

        Raises:
            ConfigurationError: called from a thread that runs an event loop, without
                ``connection``.
        """
        job = self.job(*args, **kwargs)
        self._home.send_sync((job,))
        return job

    async def get_job(self, job_id: str) -> Job[R_co] | None:
        """A job of this task by id, with typed arguments and result; None when unknown.

        Raises:
            ConfigurationError: the job belongs to another task.
        """
        job = await self._home.look_up(job_id, self._reader)
        if job is not None and job.task_name != self.name:
            raise ConfigurationError(f"{job} is not a job of task {self.name!r}")
        return job

    def __repr__(self) -> str:
        return f"<TaskDef {self.name!r} queue={self.queue!r}>"


class TaskReader:
    """Decodes arguments and results of one task by its annotations (``aioq._job.JobReader``)."""

    __slots__ = ("_home", "_signature")

    def __init__(self, signature: Signature, home: TaskHome) -> None:
        self._signature = signature
        self._home = home

    def read_arguments(self, body: Body) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self._signature.unpack(body, self._home.codec)
        return tuple(args), kwargs

    def read_result(self, data: bytes, content_type: str | None) -> Any:
        return self._signature.unpack_result(data, content_type, self._home.codec)


def task_name_of(fn: Callable[..., Any]) -> str:
    """``{module}.{qualname}``, as a worker imports it.

    Raises:
        ConfigurationError: the function has no name a worker could find (a lambda, a partial).
    """
    qualname = getattr(fn, "__qualname__", None)
    if qualname is None or qualname.endswith("<lambda>"):
        raise ConfigurationError(
            f"{fn!r} has no name of its own: give the task one with name='...'"
        )
    module = fn.__module__
    if module in ("__main__", "__mp_main__"):
        module = _main_module(module, qualname)
    return f"{module}.{qualname}"


def _main_module(module: str, qualname: str) -> str:
    """The name by which a worker imports the script that is running as ``__main__``."""
    main = modules[module]
    if main.__spec__ is not None and main.__spec__.name != "__main__":
        return main.__spec__.name
    file = getattr(main, "__file__", None)
    path = Path(file).resolve() if file is not None else None
    if path is None or not path.stem.isidentifier():
        warnings.warn(
            f"no worker can import {path.name if path else 'this session'} to find the task "
            f"{qualname!r}: give it a name with name='...', and define it in a module",
            RuntimeWarning,
            stacklevel=5,
        )
        return module
    parts = [path.stem]
    for parent in path.parents:
        if not (parent / "__init__.py").exists():
            break
        parts.insert(0, parent.name)
    return ".".join(parts)
