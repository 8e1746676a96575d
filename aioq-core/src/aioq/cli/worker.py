"""``aioq worker``: run the jobs of an app."""

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from traceback import print_exception
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import click

from aioq._app import Aarq
from aioq._describe import did_you_mean
from aioq._log import get_logger
from aioq.cli import _interpreter
from aioq.cli._apps import load_app
from aioq.cli._child import Parent, run_as_child
from aioq.cli._logging import LEVELS, configure_logging, log_warning
from aioq.cli._output import error
from aioq.cli._progress import Progress
from aioq.cli._reload import check_watching
from aioq.cli._reporting import reporting, status_line
from aioq.cli._root import Session
from aioq.cli._screen import foot
from aioq.cli._supervisor import Supervisor
from aioq.cli._systemd import Notifier
from aioq.errors import AioqError, ConfigurationError, InvalidOption
from aioq.plugins._registry import registry
from aioq.worker import Worker, WorkerOptions
from aioq.worker._health import HealthReport

if TYPE_CHECKING:
    from structlog.typing import Processor

__all__ = ["command"]

Serve: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
WORDS = "aioq.cli.worker.words"


class _Command(click.Command):
    """Keeps the words it was given: the parent of several workers starts them with the same."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)


@click.command(
    "worker",
    cls=_Command,
    short_help="Run the jobs of an app.",
    epilog="\b\nExample:\n  aioq worker tasks:app -q mail -q default -c 50",
)
@click.argument("app_path", metavar="APP")
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="Serve only this queue; may be repeated.",
)
@click.option("-c", "--concurrency", default=100, show_default=True, help="Jobs at a time.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@click.option("--reload", is_flag=True, help="Start anew when a Python file changes.")
@click.option("--burst", is_flag=True, help="Leave when nothing is due or running.")
@click.option("--strict", is_flag=True, help="Empty the queues in the order given.")
@click.option(
    "--loop",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    show_default=True,
    help="What runs the tasks.",
)
@click.option(
    "--shutdown-timeout",
    default=25.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to end running jobs.",
)
@click.option(
    "--lease",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Jobs of a dead worker run again after this long.",
)
@click.option(
    "--on-lease-lost",
    type=click.Choice(["cancel", "continue"]),
    default="cancel",
    show_default=True,
    help="When another took the job.",
)
@click.option(
    "--unknown-task-grace",
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait for a newer worker.",
)
@click.option(
    "--stall-limit",
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest block of the loop.",
)
@click.option("--health-port", type=int, metavar="PORT", help="Answer health checks here.")
@click.option("--health-host", default="127.0.0.1", show_default=True, metavar="ADDRESS")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    metavar="LEVEL",
    help="Or debug, warning, error.",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"], case_sensitive=False),
    help="[default: console on a terminal, else json]",
)
@click.option("-v", "--verbose", is_flag=True, help="The same as --log-level debug.")
@click.pass_obj
def command(
    session: Session | None,
    *,
    app_path: str,
    queues: tuple[str, ...],
    concurrency: int,
    processes: int,
    reload: bool,
    burst: bool,
    strict: bool,
    loop: Literal["asyncio", "trio"],
    shutdown_timeout: float,
    lease: float,
    on_lease_lost: Literal["cancel", "continue"],
    unknown_task_grace: float,
    stall_limit: float,
    health_port: int | None,
    health_host: str,
    log_level: str,
    log_format: str | None,
    verbose: bool,
) -> int:
    """Run the jobs of APP until SIGTERM or Ctrl-C, and then let running ones end; a second signal
    leaves at once."""
    context = click.get_current_context()
    if burst and reload:
        raise click.UsageError("--burst and --reload exclude each other", context)
    parent = Parent.from_environment()
    if session is not None and (verbose or log_level == "debug"):
        session.verbose = True
    try:
        options = WorkerOptions(
            queues=queues or None,
            concurrency=concurrency,
            burst=burst,
            strict=strict,
            shutdown_timeout=shutdown_timeout,
            lease=lease,
            on_lease_lost=on_lease_lost,
            unknown_task_grace=unknown_task_grace,
            stall_limit=stall_limit,
            health_port=None if parent else health_port,
            health_host=health_host,
        )
    except InvalidOption as exc:
        raise click.UsageError(str(exc), context) from exc
    line = None
    if burst and processes == 1 and parent is None and sys.stderr.isatty():
        line = context.with_resource(foot())
    # before the app is there: its module may set up logging its own way
    _log_to(log_format, "debug" if verbose else log_level, explicit=verbose or _given("log_level"))
    if parent is None and (processes > 1 or reload):
        verbose = session is not None and session.verbose
        words: list[str] = context.meta[WORDS]
        return _supervise(options, processes, reload=reload, words=words, verbose=verbose)
    run = {"asyncio": _run_on_asyncio, "trio": _run_on_trio}[loop]
    try:
        app = load_app(app_path)
        worker = Worker(app, options)
        if line is not None:
            app.use(Progress(line, worker.queues))
        _warn(app, app_path, queues)
        _banner(app, app_path, options, worker)
        _serve(worker, run, parent, session)
    except AioqError as exc:
        if parent is None:
            raise
        _say(exc, parent, session)
        return 1
    return 0


def _given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not click.core.ParameterSource.DEFAULT


def _log_to(form: str | None, level: str, *, explicit: bool) -> None:
    """Set up logging; libraries are heard below warning only by one who asks for a level."""
    libraries = level if explicit else "warning"
    configure_logging(level, form, libraries=libraries)
    warnings.showwarning = log_warning
    if processors := _log_processors():
        configure_logging(level, form, processors, libraries=libraries)


def _log_processors() -> "list[Processor]":
    try:
        return registry().log_processors()
    except AioqError:
        return []  # plugins that claim one name; the app says so when it reads them


def _warn(app: Aarq, path: str, queues: Iterable[str]) -> None:
    log = get_logger()
    if not app.tasks:
        log.warning(
            "worker.warning",
            reason=f"{path} has no tasks: import the modules that define them next to the app",
        )
    for queue in queues:
        if queue not in app.queues:
            log.warning(
                "worker.warning",
                reason=f"no task of {path} declares the queue {queue!r}: it gets only what "
                f".options(queue={queue!r}) sends there{did_you_mean(queue, app.queues)}",
            )
    if not app.broker.capabilities.multi_process:
        log.warning(
            "worker.warning",
            reason=f"the broker {app.broker.url} lives inside one process: this worker sees only "
            f"jobs that its own tasks enqueue",
        )


def _banner(app: Aarq, path: str, options: WorkerOptions, worker: Worker) -> None:
    get_logger().info(
        "worker.starting",
        app=path,
        broker=app.broker.url,
        namespace=app.broker.namespace,
        queues=list(options.queues or app.queues),
        concurrency=options.concurrency,
        tasks=sorted(app.tasks),
        worker_id=worker.id,
        pid=os.getpid(),
        version=version("aioq-core"),
    )


def _serve(
    worker: Worker, run: Callable[[Serve], None], parent: Parent | None, session: Session | None
) -> None:
    _interpreter.tune()

    async def serve() -> None:
        try:
            await (_work(worker) if parent is None else run_as_child(worker, parent))
        except Exception as exc:
            if not worker.abandoned:
                raise
            with suppress(OSError):  # nobody reads stderr any more
                _say(exc, parent, session)
            _leave(1)
        if worker.abandoned:
            _leave(0)

    run(serve)


def _leave(code: int) -> NoReturn:
    """End the process while plain functions still run: closing the loop, and the interpreter, would
    wait for their threads."""
    try:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _say(exc: Exception, parent: Parent | None, session: Session | None) -> None:
    """What ``main`` and the interpreter would say of it; a child leaves the sentence to its
    parent."""
    if not isinstance(exc, AioqError) or (session is not None and session.verbose):
        print_exception(exc)
    if isinstance(exc, AioqError):
        if parent is None:
            error(str(exc))
        else:
            parent.tell({"failure": str(exc)})


def _run_on_asyncio(serve: Serve) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _run_on_trio(serve: Serve) -> None:
    try:
        import trio
    except ImportError:
        raise ConfigurationError("--loop trio needs trio: pip install trio") from None
    trio.run(serve)


async def _work(worker: Worker) -> None:
    systemd = Notifier.from_environment()
    if systemd is None:
        await worker.run(signals=True)
        return

    def tell(report: HealthReport) -> None:
        systemd.update(report, status_line(worker, report))

    with reporting(worker, tell, systemd.every):
        await worker.run(signals=True)


def _loop_factory() -> Callable[[], Any] | None:
    """The loop of uvloop, where that is installed."""
    try:
        factory: Callable[[], Any] = import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory


def _supervise(
    options: WorkerOptions, processes: int, *, reload: bool, words: list[str], verbose: bool
) -> int:
    if os.name == "nt":
        raise ConfigurationError(
            "--processes and --reload need a POSIX system; start workers singly"
        )
    if reload:
        check_watching()
    command = [sys.executable, "-m", "aioq", *(["-v"] if verbose else []), "worker", *words]
    supervisor = Supervisor(
        command, options, processes=processes, reload=Path.cwd() if reload else None
    )
    return asyncio.run(supervisor.run())
