"""``Aarq``: the app. Tasks are registered on it, jobs are sent through it, a worker serves it."""

import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import anyio.to_thread

from aioq import _portal
from aioq._broker import BaseBroker
from aioq._brokers import broker_of, default_broker
from aioq._codec import Codec
from aioq._connections import Connections
from aioq._describe import did_you_mean
from aioq._job import Job
from aioq._namespace import DEFAULT_NAMESPACE
from aioq._options import TaskOptions, check_name, unknown_option
from aioq._runtime import Runtime
from aioq._serializer import Serializer
from aioq._task import TaskDef, TaskReader, task_name_of
from aioq.errors import ConfigurationError, EnqueueManyError, UnknownTask
from aioq.middleware import Around, FunctionMiddleware, Middleware
from aioq.plugins._registry import registry

if TYPE_CHECKING:
    from aioq._context import Context

__all__ = ["Aarq", "Lifespan", "TaskDecorator"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Middleware | Around)

NAMESPACE = "AIOQ_NAMESPACE"

Lifespan = Callable[["Aarq"], AbstractAsyncContextManager[Any]]


class TaskDecorator(Protocol):
    """What ``@app.task(...)`` returns: typed for async functions and for plain ones."""

    @overload
    def __call__(
        self, fn: "Callable[Concatenate[Context[Any], P], Coroutine[Any, Any, R]]", /
    ) -> TaskDef[P, R]: ...
    @overload
    def __call__(self, fn: "Callable[Concatenate[Context[Any], P], R]", /) -> TaskDef[P, R]: ...


class Aarq:
    """An aioq app.

    Args:
        broker: a broker, or a URL whose scheme an installed broker serves. None reads the
            environment variable ``AIOQ_BROKER_URL``, and falls back to ``sqlite:///aioq.db`` in
            the working directory when aioq-sqlite is installed.
        serializer: writes arguments and results: a serializer, or the name of an installed one;
            JSON by default.
        namespace: keeps apart apps that share a store: jobs, ids, queues, workers, and what the
            command line sees. None reads the environment variable ``AIOQ_NAMESPACE``, unless the
            broker was given one; without it is ``"aioq"``.
        lifespan: ``lifespan(app)`` is entered when a worker starts and left after its last job;
            what it yields is ``ctx.state``.
        plugins: False leaves out every installed plugin except the broker asked for.

    Raises:
        ConfigurationError: no installed broker serves the URL, or an option is wrong.
        NotSupported: the broker cannot keep namespaces apart.
    """

    def __init__(
        self,
        broker: BaseBroker | str | None = None,
        *,
        serializer: Serializer | str | None = None,
        namespace: str | None = None,
        lifespan: Lifespan | None = None,
        plugins: bool = True,
    ) -> None:
        self._namespace = namespace
        self._broker = None if broker is None else self._placed(broker_of(broker))
        self._registry = registry(external=plugins)
        self._serializer = serializer
        self._codec: Codec | None = None
        self.lifespan = lifespan
        self._tasks: dict[str, TaskDef[Any, Any]] = {}
        self._layers: list[Middleware] = []
        self._brought: list[Middleware] | None = None
        """Plugins' layers, from when the app is first used."""
        self._frozen = False
        self._lent: Sequence[Middleware] = ()
        self._runtime: Runtime | None = None
        self._connections: Connections | None = None
        self._freezing = threading.RLock()
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return "<Aarq>" if self._broker is None else f"<Aarq {self._broker.url}>"

    # -- tasks ------------------------------------------------------------------------------------

    @overload
    def task(
        self, fn: "Callable[Concatenate[Context[Any], P], Coroutine[Any, Any, R]]", /
    ) -> TaskDef[P, R]: ...
    @overload
    def task(self, fn: "Callable[Concatenate[Context[Any], P], R]", /) -> TaskDef[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        queue: str = "default",
        retries: int = 0,
        retry_delay: float = 5.0,
        save_result: bool = False,
        result_ttl: int = 3600,
        timeout: float | None = None,
        priority: int = 0,
        name: str | None = None,
        backoff: float = 1.0,
        max_retry_delay: float = 3600.0,
        jitter: float = 0.0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> TaskDecorator: ...
    def task(self, fn: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Register a function as a task; with or without parentheses.

        The function takes ``ctx`` first; ``async def`` runs on the event loop, a plain ``def`` in a
        thread.

        Args:
            fn: the function.
            name: its name in the queue, instead of ``{module}.{qualname}``.
            **options: those of ``TaskOptions``: ``queue``, ``retries``, ``retry_delay``,
                ``save_result``, ``result_ttl``, ``timeout``, ``priority``, ``backoff``,
                ``max_retry_delay``, ``jitter``, ``retry_on``; times in seconds.

        Raises:
            InvalidOption: an unknown option or a value out of range.
            ConfigurationError: the function cannot be a task, or its name is taken.
        """
        check_name(name)
        for option in options:
            if option not in TaskOptions.__dataclass_fields__:
                raise unknown_option(option, [*TaskOptions.__dataclass_fields__, "name"])
        checked = TaskOptions(**options)

        def register(function: Callable[..., Any]) -> TaskDef[Any, Any]:
            return self._register(function, name, checked)

        return register if fn is None else register(fn)

    def _register(
        self, fn: Callable[..., Any], name: str | None, options: TaskOptions
    ) -> TaskDef[Any, Any]:
        if not callable(fn):
            raise ConfigurationError(f"@app.task goes on a function, got {fn!r}")
        task: TaskDef[Any, Any] = TaskDef(self, fn, name or task_name_of(fn), options)
        known = self._tasks.get(task.name)
        if known is not None and _origin(known.fn) != _origin(fn):
            raise ConfigurationError(
                f"two functions want the task name {task.name!r}: {_origin(known.fn)} and "
                f"{_origin(fn)}; give one of them name='...'"
            )
        self._tasks[task.name] = task
        return task

    @property
    def tasks(self) -> MappingProxyType[str, TaskDef[Any, Any]]:
        """All registered tasks by name."""
        return MappingProxyType(self._tasks)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that its tasks declare, ordered by name."""
        return tuple(sorted({task.queue for task in self._tasks.values()})) or ("default",)

    def get_task(self, name: str) -> TaskDef[Any, Any]:
        """A task by name.

        Raises:
            UnknownTask: there is none; the message names what is near.
        """
        try:
            return self._tasks[name]
        except KeyError:
            hint = did_you_mean(name, self._tasks, f"tasks: {self._listing()}")
            raise UnknownTask(f"the app has no task {name!r}{hint}") from None

    def _listing(self) -> str:
        return ", ".join(sorted(self._tasks)) or "none are registered"

    # -- middleware --------------------------------------------------------------------------------

    def use(self, middleware: M, /) -> M:
        """Add a middleware, or an async function ``(job, call_next)``; also as a decorator.

        Raises:
            ConfigurationError: the app is in use already; its chain no longer changes.
        """
        if self._frozen:
            raise ConfigurationError(
                "middleware must be added before the first enqueue and before the worker starts"
            )
        added: Middleware | Around = middleware
        layer = added if isinstance(added, Middleware) else FunctionMiddleware(added)
        self._layers.append(layer)
        return middleware

    def middleware(self, fn: Around, /) -> Around:
        """``use`` as the decorator ``@app.middleware`` on an async function."""
        return self.use(fn)

    @property
    def layers(self) -> tuple[Middleware, ...]:
        """The middleware added to this app so far, in that order; not what plugins bring."""
        return tuple(self._layers)

    # -- assembly ----------------------------------------------------------------------------------

    @property
    def broker(self) -> BaseBroker:
        """The app's broker, found as the constructor says.

        Raises:
            NoBroker: none was given and none is to be had.
        """
        if self._broker is None:
            self._broker = self._placed(default_broker())
        return self._broker

    def _placed(self, broker: BaseBroker) -> BaseBroker:
        """The broker, in the app's namespace."""
        if self._namespace is not None:
            broker.use_namespace(self._namespace)
        elif broker.namespace == DEFAULT_NAMESPACE and (given := os.environ.get(NAMESPACE)):
            broker.use_namespace(given)
        return broker

    @property
    def codec(self) -> Codec:
        """The serializer in use, and all that can be read."""
        if self._codec is None:
            self._codec = self._make_codec()
        return self._codec

    def _make_codec(self) -> Codec:
        installed = {name: spec.load() for name, spec in self._registry.serializers().items()}
        chosen = self._serializer
        if isinstance(chosen, str):
            if chosen not in installed:
                raise ConfigurationError(
                    f"no installed serializer is named {chosen!r}; installed: "
                    f"{', '.join(sorted(installed))}"
                )
            chosen = installed[chosen]()
        return Codec(chosen, [kind() for kind in installed.values()])

    def freeze(self) -> Runtime:
        """Settle plugins and middleware; called by the first enqueue and by the worker."""
        runtime = self._runtime
        return runtime if runtime is not None else self._assemble()

    def _assemble(self) -> Runtime:
        with self._freezing:
            if self._runtime is None:
                # what can fail comes first: plugins hear of an app once
                broker, codec = self.broker, self.codec
                if self._brought is None:
                    self._registry.configure(self)
                    self._brought = self._registry.middlewares(self)
                self._frozen = True
                layers = [*self._lent, *self._brought, *self._layers]
                self._runtime = Runtime(self, broker, codec, layers)
            return self._runtime

    @contextmanager
    def lent(self, broker: BaseBroker, *layers: Middleware) -> Generator[None, None, None]:
        """Work with another broker and these layers on top until the block is left (for
        ``aioq.testing``); what was open before stays so, untouched."""
        before = self._broker, self._runtime, self._connections, self._lent, self._frozen
        self._broker, self._runtime, self._connections, self._lent = broker, None, None, layers
        try:
            yield
        finally:
            self._broker, self._runtime, self._connections, self._lent, self._frozen = before

    @property
    def connections(self) -> Connections:
        """The broker in each event loop (for the app's tasks and workers); freezes the app."""
        if self._connections is None:
            with self._freezing:
                if self._connections is None:
                    self._connections = Connections(self.freeze())
        return self._connections

    async def open(self) -> None:
        """Connect the broker in this event loop; the first enqueue does it by itself.

        Raises:
            BrokerUnavailable: the store is out of reach.
            ConfigurationError: it cannot be used as it is; the message says what to do.
        """
        await self.connections.client()

    async def close(self) -> None:
        """Let go of the connections of this event loop and of ``enqueue_sync``.

        A later enqueue opens them again. Those of an event loop are closed at its end by itself.
        """
        connections, shared = self._connections, _portal.loop()
        if connections is None:
            return
        await connections.close()
        if shared is not None and connections.opened_in(shared):
            await anyio.to_thread.run_sync(_portal.call, connections.close)

    async def __aenter__(self) -> "Aarq":
        """Open the app for as long as the block lasts; blocks may nest, as a worker's does in a web
        app's, and the last one to end closes it, unless it was open before the first."""
        await self.connections.enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.connections.leave()

    # -- enqueue -----------------------------------------------------------------------------------

    async def enqueue_many(
        self, jobs: Iterable[Job[R]], /, *, connection: object | None = None
    ) -> list[Job[R]]:
        """Send jobs made by ``task.job(...)``, of any tasks and queues, in few round trips.

        All or nothing on SQL stores; per queue and batch elsewhere.

        Args:
            jobs: unsent jobs.
            connection: store them in its transaction, as ``task.options(connection=...)``.

        Returns:
            The same job objects.

        Raises:
            PayloadTooLarge: a job is too large; none was sent.
            EnqueueManyError: some were not accepted; it says which were.
            NotSupported: the broker does not know the ``connection``.
        """
        batch = list(jobs)
        before = [job.connection for job in batch]
        if connection is not None:
            for job in batch:
                job.enclose(connection)
        try:
            if batch:
                await self._send(batch)
        except BaseException:
            for job, own in zip(batch, before, strict=True):
                if connection is not None and job.connection is connection:
                    job.enclose(own)
            raise
        return batch

    async def send(self, jobs: Sequence[Job[Any]]) -> None:
        """Send the one job of a plain enqueue (for ``TaskDef``)."""
        try:
            await self._send(jobs)
        except EnqueueManyError as exc:
            error = next(iter(exc.errors.values()))
            raise error from error.__cause__

    def send_sync(self, jobs: Sequence[Job[Any]]) -> None:
        """``send`` without an event loop (for ``TaskDef``)."""
        if all(job.connection is None for job in jobs):
            _portal.call(lambda: self.send(jobs))
            return
        self._check_queues(jobs)
        try:
            _portal.run_here(self.freeze().inside.send_sync(jobs))
        except EnqueueManyError as exc:
            error = next(iter(exc.errors.values()))
            raise error from error.__cause__

    async def look_up(self, job_id: str, reader: TaskReader) -> Job[Any] | None:
        """A job read with the annotations of one task (for ``TaskDef``)."""
        info = await self.connections.find_info(job_id)
        return None if info is None else Job.from_info(info, reader=reader, store=self.connections)

    async def _send(self, jobs: Sequence[Job[Any]]) -> None:
        if any(job.connection is not None for job in jobs):
            self._check_queues(jobs)
            await self.freeze().inside.send(jobs)
            return
        client = await self.connections.client()
        self._check_queues(jobs)
        await client.send(jobs)

    def _check_queues(self, jobs: Sequence[Job[Any]]) -> None:
        for job in jobs:
            if job.queue not in self._warned:
                self._check_served(job.queue)

    def _check_served(self, queue: str) -> None:
        self._warned.add(queue)
        if queue not in self.queues:
            warnings.warn(
                f"no task of this app declares the queue {queue!r}: a worker serves it only when "
                f"told to, 'aioq worker ... -q {queue}'{did_you_mean(queue, self.queues)}",
                RuntimeWarning,
                stacklevel=6,
            )


def _origin(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', repr(fn))}"
