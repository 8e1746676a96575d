"""``aioq enqueue``: send one job from the shell."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any

import click
import msgspec

from aioq._app import Aarq
from aioq._codec import Codec
from aioq._describe import nearest
from aioq._job import Job
from aioq._json import JSONSerializer
from aioq._options import JobOptions
from aioq._task import TaskDef
from aioq._wire import Body
from aioq.cli._apps import connected, has_module, load_app, task_of
from aioq.cli._jobs import as_record
from aioq.cli._output import as_json, note, print_json
from aioq.errors import AioqError, ConfigurationError, InvalidArguments, InvalidOption

__all__ = ["command"]


def read_value(text: str) -> Any:
    """JSON, or else the text as it is."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def read_args(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Any:
    """Callback of ARGS."""
    return [read_value(text) for text in texts]


def read_kwargs(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Any:
    """Callback of ``--kw name=VALUE``."""
    kwargs: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise click.BadParameter(f"{text!r} is not of the form name=value", context, parameter)
        if name in kwargs:
            raise click.BadParameter(f"{name!r} was given twice", context, parameter)
        kwargs[name] = read_value(value)
    return kwargs


def read_instant(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Callback of ``--run-at``: ISO 8601 with a time zone."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time like 2030-01-31T09:00:00Z", context, parameter
        ) from None
    if instant.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} has no time zone: add Z for UTC, or +01:00", context, parameter
        )
    return instant


class _Command(click.Command):
    """Says how arguments of the task are given to one who gives them as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            name = exc.option_name.lstrip("-")
            if not name.isidentifier():
                raise
            known = [option.lstrip("-") for each in self.params for option in each.opts]
            near = nearest(name, (option for option in known if len(option) > 1))
            hint = f"did you mean --{near}?" if near else f"for an argument, --kw {name}=VALUE"
            raise click.UsageError(f"there is no option {exc.option_name}; {hint}", ctx) from exc


@click.command(
    "enqueue",
    cls=_Command,
    short_help="Send one job.",
    epilog="\b\nExamples:\n"
    "  aioq enqueue tasks:app compute 5 --wait\n"
    "  aioq enqueue tasks:app send_mail '[\"a@example.org\"]' --kw subject=hello\n"
    "  aioq enqueue tasks:app compute -- -5",
)
@click.argument("app_path", metavar="APP")
@click.argument("name", metavar="TASK")
@click.argument("args", metavar="[ARGS]...", nargs=-1, callback=read_args)
@click.option(
    "--kw",
    "kwargs",
    callback=read_kwargs,
    multiple=True,
    metavar="NAME=VALUE",
    help="A keyword argument; may be repeated.",
)
@click.option("-q", "--queue", metavar="NAME", help="Instead of the task's own queue.")
@click.option("--delay", type=float, metavar="SECONDS", help="Run it this much later.")
@click.option(
    "--run-at", callback=read_instant, metavar="TIME", help="Run it then: 2030-01-31T09:00:00Z."
)
@click.option("--priority", type=int, metavar="N", help="Higher runs first.")
@click.option("--retries", type=int, metavar="N", help="Instead of the task's own.")
@click.option("--job-id", metavar="UUID", help="Refused while a job of this id is kept.")
@click.option("--wait", is_flag=True, help="Wait for its end, and print the saved result as JSON.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --wait: give up after this.")
@click.option("--json", "json", is_flag=True, help="Print the job as JSON, not its id.")
def command(
    *,
    app_path: str,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    wait: bool,
    timeout: float | None,
    json: bool,
    **given: Any,
) -> None:
    """Send a job of TASK with ARGS and print its id.

    TASK is the full name, or its last part where that is enough. Each of ARGS is read as JSON (5,
    true, [1, 2]), or else taken as text; quote text that looks like JSON twice: '"5"'.
    """
    context = click.get_current_context()
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait", context)
    app = _load(app_path)
    options: Any = {key: value for key, value in given.items() if value is not None}
    task = _with_options(task_of(app, name), options, context)
    try:
        positional, keywords = _by_annotations(task, args, kwargs, app.codec)
    except InvalidArguments as exc:
        raise InvalidArguments(f"{exc}{_taken_as_text(task, args)}") from exc

    async def send() -> None:
        async with connected(app, new=True):
            job = await task.enqueue(*positional, **keywords)
            if not json:
                click.echo(job.id)
            if wait:
                await _tell_unserved(app, app_path, job.queue)
                await _wait(job, timeout)
            if json:
                print_json(as_record(job, result=wait))
            if wait:
                _tell_end(job, show_result=task.task_options.save_result and not json)

    asyncio.run(send())


def _load(path: str) -> Aarq:
    try:
        return load_app(path)
    except ConfigurationError as exc:
        if ":" in path or has_module(path):
            raise
        raise ConfigurationError(
            f"{exc}; the app comes first: aioq enqueue tasks:app {path} ..."
        ) from exc


def _taken_as_text(task: TaskDef[..., Any], args: list[Any]) -> str:
    """The hint for one who gives an argument by name without ``--kw``."""
    for text in args:
        if isinstance(text, str) and "=" in text and task.signature.takes(text.partition("=")[0]):
            return f"; {text!r} is text: give an argument by its name with --kw {text}"
    return ""


def _with_options(
    task: TaskDef[..., Any], options: JobOptions, context: click.Context
) -> TaskDef[..., Any]:
    try:
        return task.options(**options) if options else task
    except InvalidOption as exc:
        raise click.UsageError(str(exc), context) from exc


def _by_annotations(
    task: TaskDef[..., Any], args: list[Any], kwargs: dict[str, Any], codec: Codec
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the task gets them: an object becomes its dataclass, text a datetime."""
    writer = JSONSerializer()
    body = Body(writer.content_type, writer.dumps((args, kwargs)), {})
    return task.signature.unpack(body, codec)


async def _tell_unserved(app: Aarq, app_path: str, queue: str) -> None:
    """Say why it may wait long: nobody serves the queue, or it is paused."""
    with suppress(AioqError):  # the job is stored, and waited for in any case
        if any(stats.paused for stats in await app.broker.counts([queue])):
            note(f"queue {queue!r} is paused: 'aioq queues resume {app_path} {queue}' ends that")
        if not any(queue in worker.queues for worker in await app.broker.workers()):
            note(f"no worker serves queue {queue!r} now: start one with 'aioq worker {app_path}'")


async def _wait(job: Job[Any], timeout: float | None) -> None:
    try:
        await job.finished(timeout)
    except TimeoutError as exc:
        await job.refresh()
        raise click.ClickException(f"{exc}: it is {job.status}") from exc


def _tell_end(job: Job[Any], *, show_result: bool) -> None:
    if job.status != "completed":
        reason = f": {job.error}" if job.error else ""
        raise click.ClickException(f"{job} ended {job.status}{reason}")
    if show_result:
        click.echo(as_json(job.result))
    else:
        note(f"{job} completed")
