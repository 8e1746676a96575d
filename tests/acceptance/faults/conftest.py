"""A server of the test's own, and a proxy through which the workers reach it.

The test itself has the direct way: it sees the truth while the workers are cut off.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
from acceptance.stores import STORES, Server
from servers.proxy import Proxy


@pytest.fixture(params=[name for name, store in STORES.items() if store.server is not None])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[Server]:
    """Each kind of server in turn."""
    store = STORES[request.param]
    if (missing := store.missing()) is not None:
        unavailable(missing)
    assert store.server is not None
    server = store.server(tmp_path / "server")
    server.start()
    yield server
    server.close()


@pytest.fixture
def broker_url(server: Server) -> str:
    return server.url


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def worker_url(server: Server, proxy: Proxy) -> str:
    """The server's URL with the proxy's port."""
    parts = urlsplit(server.url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}127.0.0.1:{proxy.port}").geturl()
