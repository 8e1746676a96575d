"""``aioq plugins``."""

import json
import re
from importlib.metadata import version

import pytest

from aioq.cli import plugins
from aioq.plugins import BrokerSpec, SerializerSpec
from aioq.plugins._registry import Plugin

CORE = version("aioq-core")


class Registry:
    plugins = (
        Plugin("kafka", "aioq-kafka", "1.2", "loaded"),
        Plugin("off", "aioq-off", "2", "disabled"),
        Plugin("torn", "aioq-torn", "3", "broken: ImportError: no\nluck"),
    )

    def brokers(self):
        def load():
            raise AssertionError

        load.__module__ = "kafka._plugin"
        return {
            "KafkaBroker": BrokerSpec(name="KafkaBroker", schemes=("kafka", "kafkas"), load=load)
        }

    def serializers(self):
        def load():
            raise AssertionError

        load.__module__ = "kafka._plugin"
        return {"avro": SerializerSpec(name="avro", load=load)}


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(plugins, "registry", Registry)


@pytest.mark.usefixtures("found")
def test_shows_what_each_brings_and_its_state(run):
    done = run("plugins")
    assert done.code == 0
    brings = "KafkaBroker, kafka://, kafkas://, serializer avro"
    assert [re.split("  +", line) for line in done.out.splitlines()] == [
        ["PLUGIN", "DISTRIBUTION", "VERSION", "BRINGS", "STATE"],
        ["builtin", "aioq-core", CORE, "-", "loaded"],
        ["kafka", "aioq-kafka", "1.2", brings, "loaded"],
        ["off", "aioq-off", "2", "-", "disabled"],
        ["torn", "aioq-torn", "3", "-", "broken: ImportError: no luck"],
    ]


@pytest.mark.usefixtures("found")
def test_as_json(run):
    answer = json.loads(run("plugins", "--json").out)
    assert answer["plugins"][1] == {
        "name": "kafka",
        "distribution": "aioq-kafka",
        "version": "1.2",
        "state": "loaded",
        "brokers": ["KafkaBroker"],
        "schemes": ["kafka", "kafkas"],
        "serializers": ["avro"],
    }
    assert "middleware" not in answer


def test_the_middleware_order_of_an_app(run, project):
    (project / "mine.py").write_text(
        "from aioq import Aarq, Middleware\n"
        "class Mine(Middleware): ...\n"
        "app = Aarq('memory://', plugins=False)\n"
        "app.use(Mine())\n"
        "@app.middleware\n"
        "async def around(job, call_next):\n    return await call_next(job)\n"
    )
    answer = json.loads(run("plugins", "mine:app", "--json").out)
    assert [(layer["order"], layer["name"]) for layer in answer["middleware"]] == [
        (200, "LoggingMiddleware"),
        (300, "ResultMiddleware"),
        (400, "RetryMiddleware"),
        (500, "Mine"),
        (500, "<middleware around>"),
        (600, "TimeoutMiddleware"),
    ]
    shown = run("plugins", "mine:app").out
    assert "500    Mine" in shown
    assert "builtin" in shown


def test_a_disabled_plugin_is_named(shell):
    done = shell("plugins", "--json", AIOQ_DISABLE_PLUGINS="sqlite")
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(done.out)["plugins"]}
    assert states["builtin"] == "loaded"
    assert states["sqlite"] == "disabled"
