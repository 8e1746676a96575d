"""From ``tasks:app`` on the command line to the app, its tasks and its open broker."""

import os
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from aioq._app import Aarq
from aioq._broker import BaseBroker
from aioq._brokers import BROKER_URL
from aioq._describe import did_you_mean, nearest
from aioq._task import TaskDef
from aioq.cli._output import place
from aioq.errors import ConfigurationError, UnknownTask

__all__ = ["choose_app", "connected", "has_module", "load_app", "task_of"]

AIOQ = Path(__file__).parent.parent


def load_app(path: str) -> Aarq:
    """The app that ``module:attribute`` names, or the only one in ``module``.

    The working directory comes first on the import path, and stays there.

    Raises:
        ConfigurationError: there is none; the message says why, and what is near.
    """
    if sys.path[:1] not in ([""], [str(Path.cwd())]):
        sys.path.insert(0, str(Path.cwd()))
    if "://" in path:
        raise ConfigurationError(
            f"an app is wanted here, like tasks:app, not the {path.partition('://')[0]}:// URL of "
            f"a store; commands that only look take one as --broker URL"
        )
    name, colon, attribute = path.partition(":")
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").removeprefix(f".{os.sep}").replace(os.sep, ".")
        raise ConfigurationError(
            f"{name!r} is a file name: write the module, {dotted.strip('.')}:{attribute or 'app'}"
        )
    if not all(part.isidentifier() for part in name.split(".")) or (colon and not attribute):
        raise ConfigurationError(f"{path!r} is not of the form module:attribute, like tasks:app")
    module = _import(name)
    return _attribute(module, attribute) if attribute else _only_app(module)


def has_module(name: str) -> bool:
    """Whether there may be such a module, here or on the import path; nothing is imported."""
    top = name.partition(".")[0]
    return bool(top) and PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) is not None


def choose_app(path: str | None, url: str | None, namespace: str | None = None) -> Aarq:
    """The app at ``path``, or one without tasks that speaks to the store at ``url``.

    With neither the environment variable ``AIOQ_BROKER_URL`` names the store. An app brings its
    own namespace.

    Raises:
        UsageError: both were given, or nothing.
        ConfigurationError: the app is not there, or nothing serves the URL.
    """
    if path is not None:
        if url is not None:
            raise _usage("give either an app or --broker, not both")
        if namespace is not None:
            raise _usage("--namespace goes with --broker: an app has its own")
        return load_app(path)
    url = url or os.environ.get(BROKER_URL)
    if not url:
        raise _usage(f"name the app (tasks:app), give --broker URL, or set {BROKER_URL}")
    return Aarq(url, namespace=namespace)


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context(silent=True))


@asynccontextmanager
async def connected(app: Aarq, *, new: bool = False) -> AsyncGenerator[BaseBroker, None]:
    """The app's broker, open until the block is left; with ``new`` its store may be made.

    Raises:
        ConfigurationError: what it holds cannot be seen from another process, or there is nothing
            yet; looking does not make a store.
        BrokerUnavailable: the store is out of reach.
    """
    broker = app.broker
    if not broker.capabilities.multi_process:
        raise ConfigurationError(
            f"the broker {broker.url} lives inside one process: its jobs cannot be reached from "
            f"the command line"
        )
    if not new and not await broker.exists():
        raise ConfigurationError(
            f"there is no store at {broker.url}: the first worker or enqueue makes it"
        )
    async with app:
        yield broker


def task_of(app: Aarq, name: str) -> TaskDef[Any, Any]:
    """A task by its full name or by a last part of it that no other task has.

    Raises:
        UnknownTask: there is none, or there are several; the message names what is near.
    """
    if name in app.tasks:
        return app.tasks[name]
    ends = sorted(full for full in app.tasks if full.endswith(f".{name}"))
    if len(ends) > 1:
        raise UnknownTask(f"{name!r} may be one of several tasks: {', '.join(ends)}")
    if ends:
        return app.tasks[ends[0]]
    by_part = {full.rpartition(".")[2]: full for full in app.tasks}
    if near := nearest(name, [*by_part, *app.tasks]):
        raise UnknownTask(
            f"the app has no task {name!r}; did you mean {by_part.get(near, near)!r}?"
        )
    known = ", ".join(sorted(app.tasks)) or "none are registered"
    raise UnknownTask(f"the app has no task {name!r}; tasks: {known}")


# -- the module ---------------------------------------------------------------------------------


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
            raise ConfigurationError(
                f"there is no module {exc.name!r} in {Path.cwd()} or on the import path"
                f"{_near_module(exc.name)}"
            ) from exc
        raise _broken(name, exc) from exc
    except (Exception, SystemExit) as exc:
        raise _broken(name, exc) from exc


def _near_module(name: str) -> str:
    return did_you_mean(name, (module.name for module in pkgutil.iter_modules([str(Path.cwd())])))


def _broken(name: str, exc: BaseException) -> ConfigurationError:
    return ConfigurationError(
        f"importing {name!r} raised {type(exc).__name__}: {exc}{_place_of(exc)}"
    )


def _place_of(exc: BaseException) -> str:
    """The line of the user's own code that an exception came from."""
    if isinstance(exc, SyntaxError):
        # its text ends in "(tasks.py, line 3)"
        return ""
    frames = [
        frame for frame in traceback.extract_tb(exc.__traceback__) if _is_users(frame.filename)
    ]
    if not frames:
        return ""
    return f" ({place(frames[-1].filename, frames[-1].lineno or 0)})"


def _is_users(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    installed = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(Path(filename).is_relative_to(other) for other in (str(AIOQ), *installed))


# -- the attribute ------------------------------------------------------------------------------


def _apps_in(module: ModuleType) -> dict[str, Aarq]:
    """Each app once, by the first name it has."""
    found: dict[int, tuple[str, Aarq]] = {}
    for name, value in vars(module).items():
        if isinstance(value, Aarq):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _only_app(module: ModuleType) -> Aarq:
    apps = _apps_in(module)
    if len(apps) == 1:
        return next(iter(apps.values()))
    name = module.__name__
    if apps:
        raise ConfigurationError(
            f"module {name!r} has several apps, name one: "
            f"{', '.join(f'{name}:{app}' for app in sorted(apps))}"
        )
    raise ConfigurationError(f"module {name!r} has no app: no variable of it is an Aarq")


def _attribute(module: ModuleType, path: str) -> Aarq:
    value: Any = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            hint = did_you_mean(part, [*_apps_in(module), *dir(value)], _apps_hint(module))
            raise ConfigurationError(f"module {module.__name__!r} has no {path!r}{hint}") from None
    if not isinstance(value, Aarq):
        hint = _apps_hint(module)
        raise ConfigurationError(
            f"{module.__name__}:{path} is no app: it is of type {type(value).__name__}, not Aarq"
            f"{f'; {hint}' if hint else ''}"
        )
    return value


def _apps_hint(module: ModuleType) -> str:
    apps = [f"{module.__name__}:{name}" for name in sorted(_apps_in(module))]
    return f"apps in this module: {', '.join(apps)}" if apps else ""
