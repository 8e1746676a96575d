"""``aioq jobs``: look at jobs, and retry, cancel or delete them."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from aioq._app import Aarq
from aioq._describe import did_you_mean
from aioq._ids import check_job_id
from aioq._records import MAX_BATCH, STATUSES, Status
from aioq.cli._apps import choose_app
from aioq.cli._deleting import confirm
from aioq.cli._jobs import as_record, as_table, as_text
from aioq.cli._output import count_of, error, note, print_json
from aioq.cli._queues import declared, read_queues
from aioq.cli._store import Listing, json_option, status_option, store_options, with_broker
from aioq.errors import InvalidOption, JobNotFound
from aioq.plugins import BaseBroker

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])
Act = Callable[[BaseBroker, str], Awaitable[str]]

SHOWN = {"asked": "runs, its worker was asked to stop it"}
"""Outcomes that people are told in other words than programs."""


@click.group(
    "jobs",
    cls=Listing,
    short_help="List, show, retry, cancel or delete jobs.",
    epilog="\b\nExample:\n  aioq jobs list tasks:app --status failed",
)
def command() -> None:
    """Look at jobs, and retry, cancel or delete them.

    Each takes the APP or the --broker URL. Without a command it lists.
    """


def takes_jobs(metavar: str) -> Callable[[F], F]:
    """The store and jobs by their ids; the app is the first of ``targets`` when it is given."""

    def add(function: F) -> F:
        targets = click.argument("targets", metavar=metavar, nargs=-1, required=True)
        return targets(store_options(json_option(function)))

    return add


@command.command("list", epilog="\b\nExample:\n  aioq jobs list tasks:app -s failed -s dead")
@click.argument("app_path", metavar="[APP]", required=False)
@store_options
@click.option("-q", "--queue", metavar="NAME", help="Only this queue.")
@status_option(STATUSES)
@click.option("-t", "--task", metavar="NAME", help="Only this task, by its full name.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_BATCH),
    default=50,
    show_default=True,
    help="Jobs per page.",
)
@click.option("--cursor", metavar="TEXT", help="Go on where the page before ended.")
@json_option
def list_(
    app_path: str | None,
    url: str | None,
    namespace: str | None,
    queue: str | None,
    statuses: tuple[Status, ...],
    task: str | None,
    limit: int,
    cursor: str | None,
    json: bool,
) -> None:
    """List jobs, newest first."""

    async def read(broker: BaseBroker) -> None:
        page = await broker.list_jobs(
            queue=queue, status=statuses or None, task=task, limit=limit, cursor=cursor
        )
        if json:
            print_json({"jobs": [as_record(job) for job in page], "cursor": page.cursor})
            return
        if page:
            click.echo(as_table(page))
        else:
            note(f"no jobs{await _slip(broker, app, queue, task)}")
        if page.cursor is not None:
            note(f"more: --cursor {page.cursor}")

    app = choose_app(app_path, url, namespace)
    with_broker(app, read)


async def _slip(broker: BaseBroker, app: Aarq, queue: str | None, task: str | None) -> str:
    """What may be wrong with the names that were asked for."""
    if task is not None and app.tasks and task not in app.tasks:
        return f": the app has no task {task!r}{did_you_mean(task, app.tasks)}"
    if queue is not None:
        known = [each.name for each in await read_queues(broker, declared(app))]
        if queue not in known:
            return f": there is no queue {queue!r}{did_you_mean(queue, known)}"
    return ""


@command.command(epilog="\b\nExample:\n  aioq jobs show tasks:app 0198f0a2-... --args")
@takes_jobs("[APP] JOB_ID")
@click.option("--args", "arguments", is_flag=True, help="Also its arguments and headers.")
def show(
    targets: tuple[str, ...], url: str | None, namespace: str | None, json: bool, arguments: bool
) -> None:
    """Show all that is known of a job: error, traceback, result, ..."""
    app, job_ids = _split(targets, url, namespace)
    if len(job_ids) > 1:
        raise click.UsageError("give one job id", click.get_current_context())

    async def read(broker: BaseBroker) -> None:
        job = await broker.get_job(job_ids[0])
        if job is None:
            raise _unknown(job_ids[0])
        record = as_record(job, result=True, arguments=arguments)
        if json:
            print_json(record)
        else:
            click.echo(as_text(record))
            if arguments and job.status == "completed":
                note("the arguments of a completed job are not kept")

    with_broker(app, read)


@command.command(epilog="\b\nExample:\n  aioq jobs retry tasks:app 0198f0a2-...")
@takes_jobs("[APP] JOB_ID...")
def retry(targets: tuple[str, ...], url: str | None, namespace: str | None, json: bool) -> int:
    """Run failed, dead or cancelled jobs again, with fresh retries."""

    async def act(broker: BaseBroker, job_id: str) -> str:
        if await broker.retry_job(job_id):
            return "pending"
        job = await broker.get_job(job_id)
        raise click.ClickException(
            f"job {job_id} is {job.status if job else 'gone'}: only failed, dead and cancelled "
            f"jobs can be retried"
        )

    return _each(_split(targets, url, namespace), act, json)


@command.command(epilog="\b\nExample:\n  aioq jobs cancel tasks:app 0198f0a2-...")
@takes_jobs("[APP] JOB_ID...")
def cancel(targets: tuple[str, ...], url: str | None, namespace: str | None, json: bool) -> int:
    """Cancel jobs: waiting ones at once, running ones by stopping them in their worker."""

    async def act(broker: BaseBroker, job_id: str) -> str:
        match await broker.ask_cancel(job_id):
            case "absent":
                raise _unknown(job_id)
            case "finished":
                raise click.ClickException(f"job {job_id} has finished before")
            case "asked":
                return "asked"
            case "cancelled":
                return "cancelled"

    return _each(_split(targets, url, namespace), act, json)


@command.command(epilog="\b\nExample:\n  aioq jobs delete tasks:app 0198f0a2-... --yes")
@takes_jobs("[APP] JOB_ID...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(
    targets: tuple[str, ...], url: str | None, namespace: str | None, json: bool, yes: bool
) -> int:
    """Delete jobs that wait, and records of jobs that have finished."""
    jobs = _split(targets, url, namespace)
    if not yes:
        confirm(f"Delete {count_of(len(jobs[1]), 'job')}?")

    async def act(broker: BaseBroker, job_id: str) -> str:
        if await broker.delete_job(job_id):
            return "deleted"
        if await broker.get_job(job_id) is None:
            raise _unknown(job_id)
        raise click.ClickException(f"job {job_id} is running: cancel it first")

    return _each(jobs, act, json)


def _split(
    targets: tuple[str, ...], url: str | None, namespace: str | None
) -> tuple[Aarq, list[str]]:
    """The app and the job ids: the first word is the app unless it is an id, or --broker is."""
    path = None if url is not None or _is_id(targets[0]) else targets[0]
    words = targets if path is None else targets[1:]
    context = click.get_current_context()
    if not words:
        raise click.UsageError(f"give the job's id after {path!r}", context)
    for word in words:
        if not _is_id(word):
            raise click.UsageError(f"{word!r} is not a job id (a UUID)", context)
    return choose_app(path, url, namespace), [check_job_id(word) for word in words]


def _is_id(word: str) -> bool:
    try:
        check_job_id(word)
    except InvalidOption:
        return False
    return True


def _each(jobs: tuple[Aarq, list[str]], act: Act, json: bool) -> int:
    """Do it to each job; one that cannot be done does not keep it from the others."""
    app, job_ids = jobs

    async def run(broker: BaseBroker) -> int:
        answers: list[dict[str, str | None]] = []
        for job_id in job_ids:
            outcome, mistake = None, None
            try:
                outcome = await act(broker, job_id)
            except (click.ClickException, JobNotFound) as exc:
                mistake = str(exc)
            answers.append({"id": job_id, "outcome": outcome, "error": mistake})
            if json:
                continue
            if outcome is not None:
                click.echo(f"{job_id} {SHOWN.get(outcome, outcome)}")
            else:
                error(str(mistake))
        if json:
            print_json({"jobs": answers})
        return int(any(answer["error"] for answer in answers))

    return with_broker(app, run)


def _unknown(job_id: str) -> JobNotFound:
    return JobNotFound(f"no job {job_id} is known to the store", job_id=job_id)
