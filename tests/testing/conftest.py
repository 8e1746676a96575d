"""An app as a user has it: with a broker of its own, which no test may reach."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioq import Aarq, TaskDef
from aioq.backends import MemoryBroker
from aioq.testing import Jobs, offline


class Forbidden(MemoryBroker):
    """The store of the running system."""

    async def open(self) -> None:
        raise AssertionError("the app's own broker was opened")


@pytest.fixture
def app() -> Aarq:
    return Aarq(Forbidden(), plugins=False)


@pytest.fixture
def jobs(app: Aarq) -> Iterator[Jobs]:
    with offline(app) as jobs:
        yield jobs


@pytest.fixture
def flaky(app: Aarq) -> Callable[..., TaskDef[..., Any]]:
    """Makes a task that fails so many times, then returns how often it was tried."""

    def make(failures: int, **options: Any) -> TaskDef[..., Any]:
        tries: list[str] = []

        async def flaky(ctx, word: str) -> int:
            tries.append(word)
            if len(tries) <= failures:
                raise ConnectionError(f"{word} is down")
            return len(tries)

        return app.task(name="flaky", save_result=True, **options)(flaky)

    return make
