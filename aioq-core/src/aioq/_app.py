"""``Aarq``: the app. Tasks are registered on it, jobs are sent through it, a worker serves it."""

import asyncio
import difflib
import os
import re
import warnings
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import anyio

from aioq import _portal
from aioq._broker import BaseBroker
from aioq._codec import Codec
from aioq._job import Job
from aioq._options import TaskOptions, check_name, unknown_option
from aioq._runtime import Client, Runtime
from aioq._serializer import Serializer
from aioq._task import TaskDef, TaskReader, task_name_of
from aioq.errors import (
    ConfigurationError,
    EnqueueManyError,
    NoBroker,
    UnknownTask,
)
from aioq.middleware import Around, FunctionMiddleware, Middleware
from aioq.plugins._registry import registry

if TYPE_CHECKING:
    from aioq._context import Context

__all__ = ["Aarq", "Lifespan", "TaskDecorator"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Middleware | Around)

BROKER_URL = "AIOQ_BROKER_URL"
DEFAULT_URL = "sqlite:///aioq.db"

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
        lifespan: ``lifespan(app)`` is entered when a worker starts and left after its last job;
            what it yields is ``ctx.state``.
        plugins: False leaves out every installed plugin except the broker asked for.

    Raises:
        ConfigurationError: no installed broker serves the URL, or an option is wrong.
    """

    def __init__(
        self,
        broker: BaseBroker | str | None = None,
        *,
        serializer: Serializer | str | None = None,
        lifespan: Lifespan | None = None,
        plugins: bool = True,
    ) -> None:
        self._broker = broker_of(broker) if broker is not None else None
        self._registry = registry(external=plugins)
        self._serializer = serializer
        self._codec: Codec | None = None
        self.lifespan = lifespan
        self._tasks: dict[str, TaskDef[Any, Any]] = {}
        self._layers: list[Middleware] = []
        self._runtime: Runtime | None = None
        self._clients: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        self._warned: set[str] = set()
        self._users = 0
        self._kept_open = False
        """Opened by ``open`` or an enqueue outside any block: only ``close`` closes it."""

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
            near = difflib.get_close_matches(name, self._tasks, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"tasks: {self._listing()}"
            raise UnknownTask(f"the app has no task {name!r}; {hint}") from None

    def _listing(self) -> str:
        return ", ".join(sorted(self._tasks)) or "none are registered"

    # -- middleware --------------------------------------------------------------------------------

    def use(self, middleware: M, /) -> M:
        """Add a middleware, or an async function ``(job, call_next)``; also as a decorator.

        Raises:
            ConfigurationError: the app is in use already; its chain no longer changes.
        """
        if self._runtime is not None:
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

    # -- assembly ----------------------------------------------------------------------------------

    @property
    def broker(self) -> BaseBroker:
        """The app's broker, found as the constructor says.

        Raises:
            NoBroker: none was given and none is to be had.
        """
        if self._broker is None:
            self._broker = _default_broker()
        return self._broker

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
        if self._runtime is None:
            # what can fail comes first: plugins hear of an app once
            broker, codec = self.broker, self.codec
            self._registry.configure(self)
            layers = [*self._registry.middlewares(self), *self._layers]
            self._runtime = Runtime(broker, codec, layers)
        return self._runtime

    async def open(self) -> None:
        """Connect the broker; the first enqueue does it by itself.

        Raises:
            BrokerUnavailable: the store is out of reach.
            ConfigurationError: it cannot be used as it is; the message says what to do.
        """
        await self._client()

    async def close(self) -> None:
        """Let go of the broker's connections; a later enqueue opens it again."""
        self._kept_open = False
        self._clients.clear()
        if self._broker is not None:
            await self._broker.close()

    async def __aenter__(self) -> "Aarq":
        """Open the app for as long as the block lasts; blocks may nest, as a worker's does in a web
        app's, and the last one to end closes it, unless it was open before the first."""
        self._users += 1
        try:
            await self.open()
        except BaseException:
            self._users -= 1
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._users -= 1
        if not self._users and not self._kept_open:
            await self.close()

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
        if connection is not None:
            for job in batch:
                job.enclose(connection)
        if batch:
            await self._send(batch)
        return batch

    async def send(self, jobs: Sequence[Job[Any]]) -> None:
        """Send the one job of a plain enqueue (for ``TaskDef``)."""
        try:
            await self._send(jobs)
        except EnqueueManyError as exc:
            raise next(iter(exc.errors.values())) from None

    def send_sync(self, jobs: Sequence[Job[Any]]) -> None:
        """``send`` without an event loop (for ``TaskDef``)."""
        if all(job.connection is None for job in jobs):
            _portal.call(lambda: self.send(jobs))
            return
        self._check_queues(jobs)
        try:
            _portal.run_here(self.freeze().inside.send_sync(jobs))
        except EnqueueManyError as exc:
            raise next(iter(exc.errors.values())) from None

    async def look_up(self, job_id: str, reader: TaskReader) -> Job[Any] | None:
        """A job read with the annotations of one task (for ``TaskDef``)."""
        await self._client()
        info = await self.broker.find_info(job_id)
        return None if info is None else Job.from_info(info, reader=reader, store=self.broker)

    async def _send(self, jobs: Sequence[Job[Any]]) -> None:
        if any(job.connection is not None for job in jobs):
            self._check_queues(jobs)
            await self.freeze().inside.send(jobs)
            return
        client = await self._client()
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
                f"told to, 'aioq worker ... -q {queue}'",
                RuntimeWarning,
                stacklevel=6,
            )

    async def _client(self) -> Client:
        loop = asyncio.get_running_loop()
        own = self._clients.get(loop)
        if own is None:
            for other in [other for other in self._clients if other.is_closed()]:
                del self._clients[other]
            own = self._clients[loop] = _LoopClient(Client(self.freeze()))
        if not own.open:
            async with own.lock:
                if not own.open:
                    await self.broker.open()
                    own.open = True
                    self._kept_open = self._kept_open or not self._users
        return own.client


class _LoopClient:
    """A client, and whether its event loop has opened the broker."""

    __slots__ = ("client", "lock", "open")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lock = anyio.Lock()
        self.open = False


def broker_of(broker: BaseBroker | str) -> BaseBroker:
    """The broker itself, or the one that serves this URL.

    Raises:
        ConfigurationError: it is neither, or no installed broker serves the scheme.
    """
    if isinstance(broker, BaseBroker):
        return broker
    return _served(broker)


def _served(broker: object) -> BaseBroker:
    if not isinstance(broker, str):
        raise ConfigurationError(f"broker must be a broker or a URL, got {broker!r}")
    scheme, separator, _ = broker.partition("://")
    found = registry()
    served = {name: spec for spec in found.brokers().values() for name in spec.schemes}
    if not separator or scheme not in served:
        raise ConfigurationError(
            f"no installed broker serves {_without_password(broker)!r}; installed schemes: "
            f"{', '.join(f'{name}://' for name in sorted(served))}{_missing(scheme)}"
        )
    made: BaseBroker = found.load_broker(served[scheme])(broker)
    return made


_SHIPPED = {
    "postgres": "aioq-postgres",
    "postgresql": "aioq-postgres",
    "redis": "aioq-redis",
    "rediss": "aioq-redis",
    "sqlite": "aioq-sqlite",
    "unix": "aioq-redis",
}


def _missing(scheme: str) -> str:
    return f"; for {scheme}:// pip install {_SHIPPED[scheme]}" if scheme in _SHIPPED else ""


_PASSWORD = re.compile(r"(pass(?:word|wd)?=)[^&\s]*", re.IGNORECASE)
"""A parameter of a URL, or a word of a PostgreSQL connection string."""


def _without_password(url: str) -> str:
    hidden = _PASSWORD.sub(r"\1***", url)
    head, at, tail = hidden.rpartition("@")
    if not at:
        return hidden
    scheme, separator, credentials = head.partition("://")
    if not separator:
        scheme, credentials = "", head
    return f"{scheme}{separator}{credentials.partition(':')[0]}:***@{tail}"


def _default_broker() -> BaseBroker:
    url = os.environ.get(BROKER_URL)
    if url:
        return broker_of(url)
    if "SQLiteBroker" not in registry().brokers():
        raise NoBroker(
            f"no broker: pass one to Aarq(...), set {BROKER_URL}, or "
            f"'pip install aioq-sqlite' for the embedded default"
        )
    warnings.warn(
        f"no broker was given and {BROKER_URL} is not set: jobs are kept in "
        f"{Path('aioq.db').absolute()}",
        RuntimeWarning,
        stacklevel=4,
    )
    return broker_of(DEFAULT_URL)


def _origin(fn: Callable[..., Any]) -> str:
    return f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', repr(fn))}"
