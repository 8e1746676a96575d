"""The endpoint of examples/tracing and a worker in one process, for jobs in memory."""

import asyncio
import sys

import uvicorn
from tasks import app
from web import web

from aioq import Worker


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(web, port=int(sys.argv[1]), log_level="warning"))
    worker = Worker(app)
    working = asyncio.create_task(worker.run())
    await server.serve()
    worker.stop()
    await working


asyncio.run(main())
