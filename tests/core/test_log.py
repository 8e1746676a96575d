"""What aioq logs when nobody configured logging."""

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
