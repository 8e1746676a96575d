"""Starting a coroutine on the running event loop without waiting for it, in an empty context.

Nothing that runs for several callers may inherit the context variables (a trace span, a request)
of the one that happened to start it.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

__all__ = ["start"]

_running: set["asyncio.Task[Any]"] = set()


def start(coroutine: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
    """Run ``coroutine`` as a task of its own; it is kept alive until it ends."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name, context=Context())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task
