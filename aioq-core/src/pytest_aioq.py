"""The pytest plugin of aioq: fixtures for tests of programs that enqueue jobs.

It stands outside the package because pytest imports every plugin at its start: so it costs those
nothing who do not use it in a run, and aioq is loaded by the first test that asks for a fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aioq import Aarq
    from aioq.testing import Jobs

__all__ = ["aioq_app", "aioq_jobs"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting ``aioq_app``."""
    parser.addini("aioq_app", "the app under test, as module:attribute (fixture aioq_app)")


@pytest.fixture
def aioq_app(pytestconfig: pytest.Config) -> "Aarq":
    """The app under test: what the setting ``aioq_app`` names; or override this fixture."""
    path = pytestconfig.getini("aioq_app")
    if not path:
        pytest.fail(
            'aioq does not know the app under test: set aioq_app = "module:attribute" in the '
            "pytest settings, or write a fixture aioq_app that returns it",
            pytrace=False,
        )
    from aioq.cli._apps import load_app
    from aioq.errors import ConfigurationError

    try:
        return load_app(path)
    except ConfigurationError as exc:
        pytest.fail(f"the setting aioq_app: {exc}", pytrace=False)


@pytest.fixture
def aioq_jobs(aioq_app: "Aarq") -> "Iterator[Jobs]":
    """The jobs of the app under test, in memory for this test (``aioq.testing.offline``)."""
    from aioq.testing import offline

    with offline(aioq_app) as jobs:
        yield jobs
