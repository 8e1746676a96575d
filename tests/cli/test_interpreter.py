"""What the worker command asks of the interpreter."""

import gc
import sys
from collections.abc import Iterator

import pytest

from aioq.cli._interpreter import tune


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Tests run in one process: leave it as it was."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_what_is_imported_is_not_collected_again_and_jobs_are_less_often() -> None:
    kept = [object() for _ in range(3)]
    tune()
    assert gc.get_freeze_count() > 1_000
    assert gc.get_threshold()[0] == 10_000
    assert not any(each is kept for each in gc.get_objects())


@pytest.mark.parametrize("threshold", [50_000, 0])
def test_an_app_that_has_chosen_a_higher_threshold_or_none_keeps_it(threshold: int) -> None:
    gc.set_threshold(threshold)
    tune()
    assert gc.get_threshold()[0] == threshold
