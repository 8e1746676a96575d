"""Every exception: where it stands in the tree, what it says, and that it can be carried about."""

import copy
import inspect
import pickle
from datetime import timedelta
from typing import Any

import pytest

from aioq import errors
from aioq.errors import (
    Abort,
    AioqError,
    BrokerUnavailable,
    EnqueueManyError,
    JobExists,
    JobFailed,
    JobNotFound,
    Retry,
    Snooze,
    TaskTimeout,
)

BUILTIN = {
    "InvalidOption": ValueError,
    "UnknownTask": LookupError,
    "InvalidArguments": TypeError,
    "SerializationError": ValueError,
    "PayloadTooLarge": ValueError,
    "TaskTimeout": TimeoutError,
    "BrokerUnavailable": ConnectionError,
    "JobNotFound": LookupError,
}


@pytest.mark.parametrize("name", errors.__all__)
def test_each_exception_has_its_place_and_a_docstring(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, AioqError) is (name not in ("Abort", "Retry", "Snooze"))
    assert issubclass(kind, BUILTIN.get(name, Exception))
    assert inspect.getdoc(kind)


def test_instructions_to_the_worker_are_no_errors() -> None:
    assert (Retry().delay, str(Retry())) == (None, "the task asked for a retry")
    assert (Retry(5, "later").delay, str(Retry(5, "later"))) == (5, "later")
    assert (Snooze(60).delay, str(Snooze(60))) == (60, "snoozed for 60 s")
    assert (Abort().reason, str(Abort("enough"))) == ("the task aborted", "enough")


SAMPLES: list[BaseException] = [
    JobNotFound("gone", job_id="j"),
    JobFailed("failed", job_id="j", status="dead", error="E: x", traceback="T"),
    EnqueueManyError(["a"], {"b": JobExists("taken")}),
    BrokerUnavailable("away"),
    TaskTimeout("too slow"),
    Retry(5, "later"),
    Snooze(60),
    Abort("enough"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_exception_survives_pickle_and_copy(error: BaseException) -> None:
    def told(one: BaseException) -> dict[str, Any]:
        return {key: str(value) for key, value in vars(one).items()} | {"text": str(one)}

    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert told(twin) == told(error)


def test_a_copy_keeps_its_cause_and_has_notes_of_its_own() -> None:
    error = BrokerUnavailable("away")
    error.__cause__ = cause = OSError("disk")
    error.add_note("of both")
    twin = copy.copy(error)
    twin.add_note("of one")
    assert (error.__notes__, twin.__notes__) == (["of both"], ["of both", "of one"])
    assert twin.__cause__ is cause
    assert twin.__suppress_context__


def test_a_delay_may_be_a_timedelta() -> None:
    assert Retry(timedelta(minutes=5)).delay == 300
    assert Snooze(timedelta(seconds=1.5)).delay == 1.5
    assert str(Snooze(timedelta(seconds=1.5))) == "snoozed for 1.5 s"


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), timedelta(-1), "5"])
@pytest.mark.parametrize("instruction", [Retry, Snooze])
def test_a_delay_that_is_no_delay_is_refused_where_it_is_given(
    instruction: type[Retry | Snooze], delay: Any
) -> None:
    with pytest.raises(ValueError, match="delay must be a number of seconds, not negative"):
        instruction(delay)
