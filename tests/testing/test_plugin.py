"""The pytest plugin, as users' own test runs have it."""

import re
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
FILES = dict(re.findall(r"^<!-- tested as (\S+) -->\n```python\n(.*?)^```$", PAGE, re.M | re.S))
SETTINGS = """
[pytest]
aioq_app = shop:app
filterwarnings = error
"""

IN_EVERY_WAY = """
import pytest
from shop import confirm, order

async def check(aioq_jobs):
    await order("ada")
    (job,) = await aioq_jobs.drain()
    assert (job.status, job.args) == ("completed", ("ada",))

@pytest.mark.anyio
async def test_by_anyio(aioq_jobs):
    await check(aioq_jobs)

@pytest.mark.asyncio
async def test_by_pytest_asyncio(aioq_jobs):
    await check(aioq_jobs)

def test_by_a_plain_function(aioq_jobs):
    confirm.enqueue_sync("ada")
    (job,) = aioq_jobs.drain_sync()
    assert job.status == "completed"

def test_each_test_has_jobs_of_its_own(aioq_jobs):
    assert aioq_jobs.enqueued() == []
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """The program of the page, and its settings."""
    pytester.makefile(".ini", pytest=SETTINGS)
    pytester.makepyfile(shop=FILES["shop.py"])
    return pytester


class Stopwatch:
    """How much of the processor's time each test took: on a busy machine it is not the clock's."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        began = time.process_time()
        result = yield
        self.seconds.append(time.process_time() - began)
        return result


def test_the_test_of_the_page_needs_less_than_a_second(project: pytest.Pytester):
    """Although it is about an hour."""
    assert len(FILES["test_shop.py"].splitlines()) <= 20
    project.makepyfile(test_shop=FILES["test_shop.py"])
    stopwatch = Stopwatch()
    for _ in range(3):
        run = project.inline_run("-p", "no:asyncio", plugins=[stopwatch])
        run.assertoutcome(passed=2)  # on asyncio and on trio
    assert min(stopwatch.seconds) < 1


def test_it_goes_with_every_way_to_write_a_test(project: pytest.Pytester):
    project.makepyfile(test_ways=IN_EVERY_WAY)
    settings = "asyncio_default_fixture_loop_scope=function"
    done = project.run(sys.executable, "-W", "error", "-m", "pytest", "-o", settings)
    done.assert_outcomes(passed=5)


def test_an_app_that_nobody_named(pytester: pytest.Pytester):
    pytester.makepyfile("def test_it(aioq_jobs): ...")
    done = pytester.runpytest_inprocess("-p", "no:asyncio")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        'aioq does not know the app under test: set aioq_app = "module:attribute" in the pytest '
        "settings, or write a fixture aioq_app that returns it"
    )


def test_an_app_that_is_not_there(project: pytest.Pytester):
    project.makepyfile("def test_it(aioq_jobs): ...")
    done = project.runpytest_inprocess("-p", "no:asyncio", "-o", "aioq_app=shop:api")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines("the setting aioq_app: *'api'*")


def test_a_fixture_chooses_another_app(project: pytest.Pytester):
    project.makepyfile(
        """
        import pytest
        from aioq import Aarq

        @pytest.fixture
        def aioq_app():
            return Aarq("memory://", plugins=False)

        def test_it(aioq_jobs, aioq_app):
            @aioq_app.task
            def other(ctx): ...

            other.enqueue_sync()
            assert len(aioq_jobs.run_sync()) == 1
        """
    )
    project.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=1)
