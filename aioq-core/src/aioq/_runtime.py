"""The frozen assembly of an app: what plugins and ``app.use`` gave, composed once."""

from collections.abc import Sequence
from typing import Any

from aioq._broker import BaseBroker
from aioq._codec import Codec
from aioq._job import Job, JobStore
from aioq._pipeline import compose, in_order
from aioq._records import Added
from aioq._sender import Sender
from aioq.errors import AioqError, EnqueueManyError, JobExists
from aioq.middleware import Middleware, Send

__all__ = ["Client", "Runtime"]


class Runtime:
    """Broker, codec and middleware of an app that can no longer change.

    Attributes:
        layers: all middleware, outermost first.
    """

    def __init__(self, broker: BaseBroker, codec: Codec, layers: Sequence[Middleware]) -> None:
        self.broker = broker
        self.codec = codec
        self.layers = in_order(layers)
        broker.bind(codec)


class Client:
    """The enqueueing side of a runtime in one event loop.

    Args:
        runtime: the app.
        store: where the jobs that were sent look themselves up.
    """

    def __init__(self, runtime: Runtime, store: JobStore) -> None:
        self._broker = runtime.broker
        self._store = store
        self._sender = Sender(runtime.broker)
        self.send: Send = compose(runtime.layers, "around_enqueue", self._submit)

    async def _submit(self, jobs: Sequence[Job[Any]]) -> None:
        """The innermost step: to bytes, to the store, and its answers on the jobs.

        Raises:
            PayloadTooLarge: a job is too large; none was sent.
            EnqueueManyError: the store did not accept all of them.
        """
        limit = self._broker.max_payload
        answers = await self._sender.send([job.to_record(limit) for job in jobs])
        accepted: list[str] = []
        errors: dict[str, AioqError] = {}
        for job, answer in zip(jobs, answers, strict=True):
            match answer:
                case Added("exists"):
                    errors[job.id] = JobExists(
                        f"a job with id {job.id} exists already: it is live, or its record is kept"
                    )
                case Added():
                    job.accepted(self._store, answer.at_ms)
                    accepted.append(job.id)
                case error:
                    errors[job.id] = error
        if errors:
            raise EnqueueManyError(accepted, errors)
