"""The quickstart of each store's page, as printed, in an environment that begins empty."""

from pathlib import Path

import pytest
from install import page
from install.environment import Environment

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "printed_url", "fixture"),
    [
        ("aioq-core/README.md", None, None),
        ("aioq-sqlite/README.md", None, None),
        ("docs/redis.md", "redis://localhost:6379/0", "redis_url"),
        ("docs/postgres.md", "postgresql://localhost/app", "postgres_dsn"),
    ],
)
def test_a_quickstart(
    path: str,
    printed_url: str | None,
    fixture: str | None,
    environment: Environment,
    tmp_path: Path,
    request: pytest.FixtureRequest,
):
    text = page.section((ROOT / path).read_text("utf-8"), "Quickstart")
    if printed_url is not None and fixture is not None:
        assert printed_url in text
        text = text.replace(printed_url, request.getfixturevalue(fixture))
    folder = tmp_path / "project"
    folder.mkdir()
    page.do(text, environment, folder)
