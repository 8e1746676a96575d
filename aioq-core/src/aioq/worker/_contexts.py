"""A fresh context for each job, in which every log line names the job."""

from contextvars import Context

from structlog.contextvars import bind_contextvars

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

    def fresh(self, delivery: Delivery) -> Context:
        """The context for one attempt."""
        key = (delivery.task, delivery.queue)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= MOST_TEMPLATES:
                self._templates.clear()
            template = self._templates[key] = Context()
            template.run(WORKER.set, self._worker)
            template.run(bind_contextvars, task=delivery.task, queue=delivery.queue)
        context = template.copy()
        context.run(bind_contextvars, job_id=delivery.id, attempt=delivery.retries + 1)
        return context
