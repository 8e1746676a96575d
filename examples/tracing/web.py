"""An endpoint that enqueues: ``uvicorn web:web``."""

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from tasks import welcome

web = FastAPI()
FastAPIInstrumentor.instrument_app(web, exclude_spans=["receive", "send"])


@web.post("/signup/{name}")
async def sign_up(name: str) -> dict[str, str]:
    job = await welcome.enqueue(name)
    return {"job": job.id}
