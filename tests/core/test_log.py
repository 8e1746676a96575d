"""What aioq logs when nobody configured logging."""

import sys

import pytest
import structlog

from aioq._describe import exc_info
from aioq._log import get_logger

SECRET = "hunter2"


def test_a_traceback_never_shows_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """They hold arguments and results of jobs."""
    assert not structlog.is_configured()

    def charge(password: str) -> None:
        raise ValueError("refused")

    try:
        charge(SECRET)
    except ValueError as exc:
        get_logger().error("job.failed", exc_info=exc_info(exc))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "ValueError: refused" in printed.err
    assert "in charge" in printed.err
    assert SECRET not in printed.err


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    def buggy(*_: object) -> str:
        raise KeyError("colour")

    structlog.configure(processors=[buggy], cache_logger_on_first_use=False)
    try:
        log = get_logger()
        log.error("job.failed", job_id="1")
        assert capsys.readouterr().err == (
            "aioq: the log line 'job.failed' is lost: KeyError: 'colour'\n"
        )
        monkeypatch.setattr(sys, "stderr", Closed())
        log.error("job.failed", job_id="1")
    finally:
        structlog.reset_defaults()
