"""aioq-core works without any other package of ours."""

import importlib.util
import json
import subprocess
import sys

import pytest

SIBLINGS = ["aioq_otel", "aioq_postgres", "aioq_redis", "aioq_sqlite"]
STRANGERS = {"asyncpg", "hypothesis", "opentelemetry", "pytest", "redis", "sqlite3"}


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_no_sibling_can_be_imported(sibling):
    assert importlib.util.find_spec(sibling) is None


def test_importing_aioq_loads_no_stranger():
    code = "import aioq, json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {name.split(".")[0] for name in json.loads(done.stdout)} & STRANGERS


@pytest.mark.parametrize(
    ("broker", "package"),
    [
        ("SQLiteBroker", "aioq-sqlite"),
        ("RedisBroker", "aioq-redis"),
        ("PostgresBroker", "aioq-postgres"),
    ],
)
def test_a_broker_that_is_not_installed_says_what_to_install(broker, package):
    with pytest.raises(ImportError, match=f"pip install {package}"):
        exec(f"from aioq.backends import {broker}", {})


def test_a_misspelt_broker_is_just_unknown():
    with pytest.raises(ImportError, match="RedsBroker") as raised:
        exec("from aioq.backends import RedsBroker", {})
    assert "pip install" not in str(raised.value)


def test_an_app_without_any_broker_says_so(monkeypatch):
    from aioq import Aarq
    from aioq.errors import NoBroker

    monkeypatch.delenv("AIOQ_BROKER_URL", raising=False)
    app = Aarq()
    with pytest.raises(NoBroker):
        _ = app.broker


async def test_a_job_is_enqueued_and_found_in_memory():
    from aioq import Aarq
    from aioq.backends import MemoryBroker

    broker = MemoryBroker()
    app = Aarq(broker=broker)

    @app.task(queue="default", name="double")
    async def double(ctx, n: int) -> int:
        return 2 * n

    async with broker:
        job = await double.enqueue(21)
        found = await broker.get_job(job.id)

    assert found is not None
    assert (found.status, found.task_name, found.id) == ("pending", "double", job.id)
    assert list(found.args) == [21]


def test_the_command_line_answers():
    done = subprocess.run([sys.executable, "-m", "aioq", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "worker" in done.stdout
