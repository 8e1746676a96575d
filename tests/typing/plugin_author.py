"""What a plugin may write: it must pass both checkers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, assert_type

from aioq import Aarq, Middleware
from aioq.errors import BrokerUnavailable
from aioq.middleware import Next, Returned, RunningJob
from aioq.plugins import (
    Added,
    BaseBroker,
    BrokerSpec,
    Capabilities,
    Claimed,
    Fence,
    JobInfo,
    LeaseClient,
    NewJob,
    QueueStats,
    Renewed,
    Serializer,
    SerializerSpec,
    Settled,
    Settlement,
    Token,
    Upkeep,
    hookimpl,
)


class Client(LeaseClient):
    def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        return Renewed(lost=tokens)

    def close(self) -> None: ...


class SmallBroker(BaseBroker):
    """The ten methods a broker starts with."""

    capabilities: ClassVar[Capabilities] = Capabilities(find=False, pause=False, registry=False)

    def __init__(self, url: str) -> None:
        super().__init__(max_payload=65_536)
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    async def open(self) -> None:
        raise BrokerUnavailable("no route")

    async def close(self) -> None: ...

    async def enqueue(
        self, jobs: Sequence[NewJob], *, producer: bytes, numbers: Mapping[str, int]
    ) -> Sequence[Added]:
        assert_type(jobs[0].at_ms, int | None)
        return [Added("new", 0) for _ in jobs]

    async def claim(
        self,
        queues: Sequence[str],
        limit: int,
        *,
        worker: str,
        lease_ms: int,
        max_bytes: int = 1_048_576,
        quarantined: bool = True,
    ) -> Claimed:
        assert_type(Fence("id", 1, worker, 0).pack(), bytes)
        return Claimed([])

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        return ["accepted" if item.kind == "completed" else "stale" for item in settlements]

    async def renew(self, tokens: Sequence[Token], lease_ms: int) -> Renewed:
        return Renewed()

    def for_lease_thread(self) -> Client:
        return Client()

    async def upkeep(self, queues: Sequence[str], *, lease_ms: int, budget: int = 500) -> Upkeep:
        return Upkeep()

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobInfo | None]:
        return [None for _ in job_ids]

    async def counts(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        return [QueueStats(queue) for queue in queues or ()]


class Upper(Serializer):
    content_type: ClassVar[str] = "text/upper"

    def dumps(self, value: Any) -> bytes:
        return str(value).upper().encode()

    def loads(self, data: bytes) -> Any:
        return data.decode()


class Tenant(Middleware):
    async def around_call(self, job: RunningJob, call_next: Next) -> Returned:
        job.ctx["tenant"] = job.headers.get("tenant", "")
        return await call_next(job)


def load_broker() -> type[BaseBroker]:
    return SmallBroker


@hookimpl
def aioq_brokers() -> Iterable[BrokerSpec]:
    return [BrokerSpec(name="SmallBroker", schemes=("small",), load=load_broker)]


@hookimpl
def aioq_serializers() -> Iterable[SerializerSpec]:
    return [SerializerSpec(name="upper", load=lambda: Upper)]


@hookimpl
def aioq_middlewares(app: Aarq) -> Iterable[Middleware]:
    return [Tenant()]


@hookimpl
def aioq_configure(app: Aarq) -> None:
    app.use(Tenant())
