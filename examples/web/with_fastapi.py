"""A web app that hands work to jobs, with FastAPI.

`uvicorn with_fastapi:web` serves it, `aioq worker jobs:app` does the work.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any
from uuid import UUID

import jobs
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from aioq import Job
from aioq.errors import BrokerUnavailable, EnqueueError


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    async with jobs.app:  # connected before the first request, closed after the last
        yield


web = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    title: str
    seconds: float = 0.0


class State(BaseModel):
    id: str
    status: str
    result: str | None = None
    error: str | None = None

    @classmethod
    def of(cls, job: Job[str]) -> "State":
        return cls(id=job.id, status=job.status, result=job.result, error=job.error)


async def find(job_id: UUID) -> Job[str]:
    job = await jobs.report.get_job(str(job_id))
    if job is None:
        raise HTTPException(404, "no such report, or it is too old")
    return job


@web.post("/reports", status_code=202)
async def order(wanted: Order) -> State:
    return State.of(await jobs.report.enqueue(wanted.title, wanted.seconds))


@web.get("/reports/{job_id}")
async def show(job_id: UUID, wait: Annotated[float, Query(ge=0, le=60)] = 0) -> State:
    """As it stands, or as soon as it has ended within `wait` seconds."""
    job = await find(job_id)
    if wait:
        with suppress(TimeoutError):
            await job.finished(timeout=wait)
    return State.of(job)


@web.delete("/reports/{job_id}")
async def cancel(job_id: UUID) -> State:
    job = await find(job_id)
    if not await job.cancel():
        raise HTTPException(409, f"it is {job.status} already")
    return State.of(await job.refresh())


@web.exception_handler(BrokerUnavailable)
@web.exception_handler(EnqueueError)
async def store_is_away(request: Request, error: Exception) -> Any:
    return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": "5"})
