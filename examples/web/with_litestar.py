"""A web app that hands work to jobs, with Litestar.

`uvicorn with_litestar:web` serves it, `aioq worker jobs:app` does the work.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import jobs
from litestar import Litestar, Request, Response, delete, get, post
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import Parameter

from aioq import Job
from aioq.errors import BrokerUnavailable, EnqueueError


@dataclass
class Order:
    title: str
    seconds: float = 0.0


@dataclass
class State:
    id: str
    status: str
    result: str | None = None
    error: str | None = None

    @classmethod
    def of(cls, job: Job[str]) -> "State":
        return cls(job.id, job.status, job.result, job.error)


async def find(job_id: UUID) -> Job[str]:
    job = await jobs.report.get_job(str(job_id))
    if job is None:
        raise NotFoundException("no such report, or it is too old")
    return job


@post("/reports", status_code=202)
async def order(data: Order) -> State:
    return State.of(await jobs.report.enqueue(data.title, data.seconds))


@get("/reports/{job_id:uuid}")
async def show(job_id: UUID, wait: Annotated[float, Parameter(ge=0, le=60)] = 0) -> State:
    """As it stands, or as soon as it has ended within `wait` seconds."""
    job = await find(job_id)
    if wait:
        with suppress(TimeoutError):
            await job.finished(timeout=wait)
    return State.of(job)


@delete("/reports/{job_id:uuid}", status_code=200)
async def cancel(job_id: UUID) -> State:
    job = await find(job_id)
    if not await job.cancel():
        raise ClientException(f"it is {job.status} already", status_code=409)
    return State.of(await job.refresh())


def store_is_away(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, str]]:
    return Response({"detail": "try again later"}, status_code=503, headers={"Retry-After": "5"})


web = Litestar(
    [order, show, cancel],
    lifespan=[jobs.app],  # connected before the first request, closed after the last
    exception_handlers={BrokerUnavailable: store_is_away, EnqueueError: store_is_away},
)
