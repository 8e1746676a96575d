"""A job as the command line shows it."""

from typing import Any

from aioq._job import Job
from aioq.cli._output import as_json, printable, table, utc
from aioq.errors import SerializationError

__all__ = ["as_record", "as_table", "as_text"]


def as_record(job: Job[Any], *, result: bool = False, arguments: bool = False) -> dict[str, Any]:
    """All that is known of the job, for JSON.

    Args:
        job: the job.
        result: with its result and traceback.
        arguments: with its arguments and headers; empty once the job has completed.
    """
    record: dict[str, Any] = {
        "id": job.id,
        "task": job.task_name,
        "queue": job.queue,
        "status": job.status,
        "priority": job.priority,
        "retries": job.retries,
        "max_retries": job.max_retries,
        "retry_delay": job.retry_delay,
        "crashes": job.crashes,
        "worker_id": job.worker_id,
        "enqueued_at": job.enqueued_at,
        "run_at": job.run_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "error": job.error,
    }
    if result:
        record["traceback"] = job.traceback
        record["result"] = _readable(lambda: job.result)
    if arguments:
        record["args"] = _readable(lambda: job.args)
        record["kwargs"] = _readable(lambda: job.kwargs)
        record["headers"] = _readable(lambda: job.headers)
    return record


def as_text(record: dict[str, Any]) -> str:
    """A record for people, a field a line."""
    width = max(map(len, record)) + 2
    return "\n".join(f"{f'{name}:':{width}}{_field(name, record[name])}" for name in record)


def as_table(jobs: list[Job[Any]]) -> str:
    """Jobs for people, one a line."""
    head = ("ID", "STATUS", "TASK", "QUEUE", "ENQUEUED (UTC)", "RETRIES", "ERROR")
    rows = [
        (
            job.id,
            job.status,
            job.task_name,
            job.queue,
            utc(job.enqueued_at),
            f"{job.retries}/{job.max_retries}",
            _short(job.error or "-"),
        )
        for job in jobs
    ]
    return table(head, rows)


def _readable(read: Any) -> Any:
    """One broken field costs only itself."""
    try:
        return read()
    except SerializationError as exc:
        return f"(cannot be read: {exc})"


def _field(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in ("result", "args", "kwargs", "headers"):
        return printable(as_json(value))
    if name.endswith("_at"):
        return f"{utc(value)} UTC"
    text = printable(str(value)).rstrip()
    return text.replace("\n", "\n    ") if name != "traceback" else _indented(text)


def _indented(text: str) -> str:
    return "".join(f"\n    {line}" for line in text.splitlines())


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
