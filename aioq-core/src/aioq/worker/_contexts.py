"""A fresh context for each job, in which every log line names the job."""

from contextvars import Context, ContextVar
from typing import Any

from structlog.contextvars import STRUCTLOG_KEY_PREFIX, bind_contextvars

from aioq._current import WORKER
from aioq._records import Delivery, WorkerInfo

__all__ = ["JobContexts"]

MOST_TEMPLATES = 1_000


class JobContexts:
    """Makes the contexts that jobs run in: nothing leaks from one to the next.

    ``job_id``, ``task``, ``queue`` and ``attempt`` are bound as structlog context variables, so a
    task's own lines carry them, too. What is the same for all jobs of a task is bound once, in a
    template: copying a context is free, binding is not.

    Args:
        worker: whose jobs they are.
    """

    def __init__(self, worker: WorkerInfo) -> None:
        self._worker = worker
        self._templates: dict[tuple[str, str], Context] = {}
        self._job_id, self._attempt = _variables("job_id", "attempt")

    def fresh(self, delivery: Delivery) -> Context:
        """The context for one attempt."""
        template = self._templates.get((delivery.task, delivery.queue))
        context = (template or self._template(delivery.task, delivery.queue)).copy()
        context.run(self._job_id.set, delivery.id)
        context.run(self._attempt.set, delivery.retries + 1)
        return context

    def _template(self, task: str, queue: str) -> Context:
        if len(self._templates) >= MOST_TEMPLATES:
            self._templates.clear()
        template = self._templates[task, queue] = Context()
        template.run(WORKER.set, self._worker)
        template.run(bind_contextvars, task=task, queue=queue)
        return template


def _variables(*names: str) -> list[ContextVar[Any]]:
    """The context variables behind these names, which structlog looks up at each binding."""
    context = Context()
    context.run(bind_contextvars, **dict.fromkeys(names))
    by_name = {variable.name.removeprefix(STRUCTLOG_KEY_PREFIX): variable for variable in context}
    return [by_name[name] for name in names]
