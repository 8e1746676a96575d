"""APP on the command line: every way in which it can be wrong has its sentence."""

import pytest

from aioq.cli._apps import choose_app, load_app, task_of
from aioq.errors import ConfigurationError, UnknownTask

pytestmark = pytest.mark.usefixtures("project")


def sentence(path: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_app(path)
    return str(caught.value)


def test_module_and_attribute():
    import tasks

    assert load_app("tasks:app") is tasks.app


def test_the_only_app_of_a_module(project):
    (project / "tasks2.py").write_text("from tasks import app\nalias = app\n")
    assert load_app("tasks2") is load_app("tasks:app")


def test_a_dotted_path(project):
    (project / "pack").mkdir()
    (project / "pack" / "__init__.py").touch()
    (project / "pack" / "jobs.py").write_text(
        "from tasks import app\nclass Box:\n    inner = app\n"
    )
    assert load_app("pack.jobs:Box.inner") is load_app("tasks:app")


def test_the_working_directory_comes_first(project, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "path", ["elsewhere", *sys.path[1:]])
    load_app("tasks")
    assert sys.path[0] == str(project)


def test_several_apps(project):
    (project / "two.py").write_text("from aioq import Aarq\nb = Aarq()\na = Aarq()\n")
    assert sentence("two") == "module 'two' has several apps, name one: two:a, two:b"


def test_no_app(project):
    (project / "none.py").touch()
    assert sentence("none") == "module 'none' has no app: no variable of it is an Aarq"


def test_unknown_module(project):
    assert sentence("taks:app") == (
        f"there is no module 'taks' in {project} or on the import path; did you mean 'tasks'?"
    )


def test_unknown_submodule(project):
    assert sentence("tasks.inner:app").startswith("there is no module 'tasks.inner' in ")


@pytest.mark.parametrize(
    ("path", "better"),
    [("tasks.py", "tasks:app"), ("./tasks.py:app", "tasks:app"), ("pack/jobs.py:q", "pack.jobs:q")],
)
def test_a_file_name(path, better):
    assert (
        sentence(path) == f"{path.partition(':')[0]!r} is a file name: write the module, {better}"
    )


def test_a_url_in_place_of_an_app():
    assert sentence("redis://:secret@host/0") == (
        "an app is wanted here, like tasks:app, not the redis:// URL of a store; commands that "
        "only look take one as --broker URL"
    )


@pytest.mark.parametrize("path", ["", "tasks:", ":app", "tasks app", "a-b:app", "tasks..x"])
def test_no_module_at_all(path):
    assert sentence(path) == f"{path!r} is not of the form module:attribute, like tasks:app"


def test_unknown_attribute():
    assert sentence("tasks:ap") == "module 'tasks' has no 'ap'; did you mean 'app'?"
    assert sentence("tasks:xyz") == "module 'tasks' has no 'xyz'; apps in this module: tasks:app"


def test_an_attribute_that_is_no_app():
    assert sentence("tasks:compute") == (
        "tasks:compute is no app: it is of type TaskDef, not Aarq; apps in this module: tasks:app"
    )


def test_a_module_that_raises(project):
    (project / "helper.py").write_text("def work():\n\n    return 1 / 0\n")
    (project / "bad.py").write_text("import helper\nhelper.work()\n")
    assert sentence("bad:app") == (
        "importing 'bad' raised ZeroDivisionError: division by zero (helper.py:3)"
    )


def test_the_place_is_the_users_code_not_aioq(project):
    (project / "wrong.py").write_text(
        "from aioq import Aarq\napp = Aarq('memory://')\n\n\n"
        "@app.task(retries=-1)\nasync def f(ctx): ...\n"
    )
    assert sentence("wrong") == (
        "importing 'wrong' raised InvalidOption: retries must be a whole number from 0 to "
        "2147483647, got -1 (wrong.py:5)"
    )


def test_a_module_that_needs_a_missing_one(project):
    (project / "needs.py").write_text("import not_there_at_all\n")
    assert sentence("needs:app") == (
        "importing 'needs' raised ModuleNotFoundError: No module named 'not_there_at_all' "
        "(needs.py:1)"
    )


def test_a_module_with_a_syntax_error(project):
    (project / "typo.py").write_text("x = 1\ndef f(:\n")
    assert sentence("typo") == (
        "importing 'typo' raised SyntaxError: invalid syntax (typo.py, line 2)"
    )


def test_a_module_that_ends_the_program(project):
    (project / "ends.py").write_text("raise SystemExit(3)\n")
    assert sentence("ends") == "importing 'ends' raised SystemExit: 3 (ends.py:1)"


def test_a_bad_url(project):
    (project / "url.py").write_text("from aioq import Aarq\napp = Aarq('amqps://u:pw@h/0')\n")
    told = sentence("url")
    assert told.startswith("importing 'url' raised ConfigurationError: no installed broker serves ")
    assert told.endswith("(url.py:2)")
    assert "pw" not in told


# -- the store instead of an app ------------------------------------------------------------------


def test_a_store_by_url(monkeypatch):
    assert choose_app(None, "memory://").broker.url == "memory://"
    monkeypatch.setenv("AIOQ_BROKER_URL", "memory://")
    assert choose_app(None, None).broker.url == "memory://"
    assert choose_app("tasks:app", None) is load_app("tasks:app")


def test_a_store_by_a_wrong_url():
    with pytest.raises(ConfigurationError, match=r"^no installed broker serves 'mars://x'; "):
        choose_app(None, "mars://x")


def test_a_file_in_place_of_a_url():
    with pytest.raises(ConfigurationError) as caught:
        choose_app(None, "jobs.db")
    assert str(caught.value) == ("'jobs.db' is no URL: write sqlite:///jobs.db for the SQLite file")


# -- tasks ----------------------------------------------------------------------------------------


def test_a_task_by_its_name_or_a_last_part_of_it(project):
    app = load_app("tasks:app")
    assert task_of(app, "tasks.compute") is task_of(app, "compute") is app.tasks["tasks.compute"]


def test_a_part_that_several_tasks_have(project):
    (project / "many.py").write_text(
        "from aioq import Aarq\napp = Aarq('memory://')\n"
        "for place in 'ab':\n    app.task(name=f'{place}.go')(lambda ctx: None)\n"
    )
    with pytest.raises(UnknownTask) as caught:
        task_of(load_app("many"), "go")
    assert str(caught.value) == "'go' may be one of several tasks: a.go, b.go"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("compte", "did you mean 'tasks.compute'?"),
        ("tasks.compte", "did you mean 'tasks.compute'?"),
        ("xyz", "tasks: tasks.compute, tasks.fail, tasks.note, tasks.typed"),
    ],
)
def test_an_unknown_task(name, hint):
    with pytest.raises(UnknownTask) as caught:
        task_of(load_app("tasks:app"), name)
    assert str(caught.value) == f"the app has no task {name!r}; {hint}"
