"""The frozen assembly of an app: what plugins and ``app.use`` gave, composed once."""

import warnings
from collections.abc import Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any

from aioq._broker import BaseBroker
from aioq._codec import Codec
from aioq._job import Job, JobStore
from aioq._pipeline import compose, in_order, overrides
from aioq._records import NewJob
from aioq._sender import Answer, Sender
from aioq.errors import AioqError, EnqueueManyError, InvalidOption, JobExists
from aioq.middleware import Middleware, Send

if TYPE_CHECKING:
    from aioq._app import Aarq

__all__ = ["Client", "Inside", "Runtime"]


class Runtime:
    """Broker, codec and middleware of an app that can no longer change.

    Attributes:
        layers: all middleware, outermost first.
        background: the context that aioq's own tasks run in copies of.
    """

    def __init__(
        self, app: "Aarq", broker: BaseBroker, codec: Codec, layers: Sequence[Middleware]
    ) -> None:
        self.broker = broker
        self.codec = codec
        self.layers = in_order(layers)
        self.background = _background_of(app, self.layers)
        self.inside = Inside(self)
        broker.bind(codec)


def _background_of(app: "Aarq", layers: Sequence[Middleware]) -> Context:
    context = Context()
    for layer in layers:
        if overrides(layer, "background"):
            try:
                context.run(layer.background, app)
            except Exception as exc:
                warnings.warn(
                    f"the middleware {layer!r} broke in background() and goes without: "
                    f"{type(exc).__name__}: {exc}",
                    RuntimeWarning,
                    stacklevel=2,
                )
    return context


class Client:
    """The enqueueing side of a runtime in one event loop.

    Args:
        runtime: the app.
        store: where the jobs that were sent look themselves up.
    """

    def __init__(self, runtime: Runtime, store: JobStore) -> None:
        self._broker = runtime.broker
        self._store = store
        self._sender = Sender(runtime.broker, context=runtime.background)
        self.send: Send = compose(runtime.layers, "around_enqueue", self._submit)

    def hang_up(self) -> None:
        """The broker closes: who waits is told, and nothing is sent by this client any more."""
        self._sender.hang_up()

    async def close(self) -> None:
        """The loop ends: send no more."""
        await self._sender.close()

    async def _submit(self, jobs: Sequence[Job[Any]]) -> None:
        """The innermost step: to bytes, to the store, and its answers on the jobs.

        Raises:
            PayloadTooLarge: a job is too large; none was sent.
            EnqueueManyError: the store did not accept all of them.
        """
        limit = self._broker.max_payload
        answers = await self._sender.send([job.to_record(limit) for job in jobs])
        _note(jobs, answers, self._store)


class Inside:
    """The enqueueing side of a runtime in transactions of its callers, in any thread or loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._broker = runtime.broker
        self.send: Send = compose(runtime.layers, "around_enqueue", self._submit)
        self.send_sync: Send = compose(runtime.layers, "around_enqueue", self._submit_sync)
        """Waits for nothing but middleware."""

    async def _submit(self, jobs: Sequence[Job[Any]]) -> None:
        connection, records = self._prepare(jobs)
        answers = await self._broker.enqueue_inside(connection, records)
        _note(jobs, answers, self._broker)

    async def _submit_sync(self, jobs: Sequence[Job[Any]]) -> None:
        connection, records = self._prepare(jobs)
        answers = self._broker.enqueue_inside_sync(connection, records)
        _note(jobs, answers, self._broker)

    def _prepare(self, jobs: Sequence[Job[Any]]) -> tuple[object, list[NewJob]]:
        connection = jobs[0].connection
        if any(job.connection is not connection for job in jobs):
            raise InvalidOption("the jobs of one call must all have the same connection, or none")
        return connection, [job.to_record(self._broker.max_payload) for job in jobs]


def _note(jobs: Sequence[Job[Any]], answers: Sequence[Answer], store: JobStore) -> None:
    """Tell the jobs what became of them.

    Raises:
        EnqueueManyError: the store did not accept all of them.
    """
    accepted: list[str] = []
    errors: dict[str, AioqError] = {}
    for job, answer in zip(jobs, answers, strict=True):
        if isinstance(answer, AioqError):
            errors[job.id] = answer
        elif answer.status == "exists":
            errors[job.id] = JobExists(
                f"a job with id {job.id} exists already: it is live, or its record is kept"
            )
        else:
            job.accepted(store, answer.at_ms)
            accepted.append(job.id)
    if errors:
        raise EnqueueManyError(accepted, errors)
