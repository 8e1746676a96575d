"""A task is named as a worker imports it."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aioq import Aarq
from aioq.errors import ConfigurationError, UnknownTask

SCRIPT = """
from aioq import Aarq
app = Aarq("memory://")
@app.task
async def send(ctx): ...
print(send.name)
"""


async def module_level(ctx: Any) -> None: ...


class Holder:
    @staticmethod
    async def static(ctx: Any) -> None: ...


def run(*arguments: str, folder: Path, stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_name_is_module_and_qualname(app: Aarq) -> None:
    assert app.task(module_level).name == f"{__name__}.module_level"
    assert app.task(Holder.static).name == f"{__name__}.Holder.static"


def test_a_nested_function_says_where_it_is(app: Aarq) -> None:
    @app.task
    async def inner(ctx: Any) -> None: ...

    assert inner.name == (f"{__name__}.test_a_nested_function_says_where_it_is.<locals>.inner")


def test_a_name_can_be_given(app: Aarq) -> None:
    task = app.task(name="mail.send")(module_level)
    assert task.name == "mail.send"
    assert app.get_task("mail.send") is task


def test_a_script_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(SCRIPT, "utf-8")
    assert run("tasks.py", folder=tmp_path) == "tasks.send"


def test_a_module_run_by_name_keeps_that_name(tmp_path: Path) -> None:
    package = tmp_path / "pkg" / "sub"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("", "utf-8")
    (package / "mod.py").write_text(SCRIPT, "utf-8")
    (package / "__main__.py").write_text(SCRIPT, "utf-8")
    assert run("-m", "pkg.sub.mod", folder=tmp_path) == "pkg.sub.mod.send"
    assert run(str(package / "mod.py"), folder=tmp_path) == "pkg.sub.mod.send"
    assert run("-m", "pkg.sub", folder=tmp_path) == "pkg.sub.__main__.send"


@pytest.mark.parametrize("arguments", [["-c", SCRIPT], ["-"], ["my-tasks.py"]])
def test_a_script_that_no_worker_can_import_is_told_so(tmp_path: Path, arguments: Any) -> None:
    (tmp_path / "my-tasks.py").write_text(SCRIPT, "utf-8")
    assert run(*arguments, folder=tmp_path, stdin=SCRIPT) == "__main__.send"
    with pytest.raises(subprocess.CalledProcessError) as ended:
        run("-W", "error", *arguments, folder=tmp_path, stdin=SCRIPT)
    assert "to find the task 'send': give it a name with name='...'" in ended.value.stderr


@pytest.mark.parametrize(
    "fn", [lambda ctx: None, partial(module_level), object()], ids=["lambda", "partial", "object"]
)
def test_what_has_no_name_needs_one(app: Aarq, fn: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give the task one with name='\.\.\.'|goes on a"):
        app.task(fn)


@pytest.mark.parametrize("fn", [lambda ctx: None, partial(module_level)])
def test_a_given_name_is_enough(app: Aarq, fn: Any) -> None:
    assert app.task(name="named")(fn).name == "named"


def test_two_functions_cannot_have_one_name(app: Aarq) -> None:
    app.task(name="t")(module_level)
    with pytest.raises(ConfigurationError) as refused:
        app.task(name="t")(Holder.static)
    assert str(refused.value) == (
        f"two functions want the task name 't': {__name__}.module_level and "
        f"{__name__}.Holder.static; give one of them name='...'"
    )


def test_the_same_function_defined_again_replaces_the_first(app: Aarq) -> None:
    def define() -> Any:
        @app.task
        async def task(ctx: Any) -> None: ...

        return task

    first, second = define(), define()
    assert first is not second
    assert app.get_task(first.name) is second


def test_an_unknown_task_names_what_is_near(app: Aarq) -> None:
    with pytest.raises(UnknownTask) as refused:
        app.get_task("mail.send")
    assert str(refused.value) == "the app has no task 'mail.send'; tasks: none are registered"
    app.task(name="mail.sent")(module_level)
    with pytest.raises(UnknownTask, match=r"did you mean 'mail\.sent'\?") as refused:
        app.get_task("mail.send")
    with pytest.raises(UnknownTask, match=r"(?m)tasks: mail\.sent$"):
        app.get_task("xyz")
    assert isinstance(refused.value, LookupError)
