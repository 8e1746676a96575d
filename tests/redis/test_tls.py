"""``rediss://``: calls, wake-ups and the lease thread speak TLS, and trust nobody unknown."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import trustme
from servers.hands import Hand
from servers.proxy import Proxy
from servers.redis import PATIENCE, RedisServer

from aioq.errors import BrokerUnavailable
from aioq.plugins import Hint, WorkerInfo
from aioq_redis import RedisBroker

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "client.pem"
    )
    return authority


@pytest.fixture
def secured(server: RedisServer, authority: trustme.CA) -> Iterator[Proxy]:
    """The server's door: it shows a certificate for localhost, and wants one of its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with Proxy(server.port, tls=context) as proxy:
        yield proxy


async def test_everything_goes_through_tls(secured: Proxy, tmp_path: Path) -> None:
    """One option stands in the URL, the others are given as arguments."""
    url = f"rediss://localhost:{secured.port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
    own = str(tmp_path / "client.pem")
    async with RedisBroker(
        url, ssl_certfile=own, ssl_keyfile=own, socket_timeout=PATIENCE
    ) as broker:
        hand = Hand(broker)
        assert not await hand.claim()
        worker = WorkerInfo(hand.worker, "host", 1, ("q",), 1, "0")
        hints = broker.hints(worker, lambda: 1)
        async with anyio.create_task_group() as group:
            with anyio.fail_after(60):
                group.start_soon(hand.add, 1)
                assert await anext(hints) == Hint("q")
        (held,) = await hand.claim()
        lease_client = broker.for_lease_thread()
        assert not lease_client.renew([held.token], 90_000).lost
        lease_client.close()
        assert list(await hand.settle(held)) == ["accepted"]


@pytest.mark.parametrize("lacks", ["the authority", "its own certificate"])
async def test_a_handshake_that_fails_is_said(secured: Proxy, tmp_path: Path, lacks: str) -> None:
    url = f"rediss://localhost:{secured.port}"
    if lacks != "the authority":
        url += f"?ssl_ca_certs={tmp_path / 'ca.pem'}"
    with pytest.raises(BrokerUnavailable):
        await RedisBroker(url).open()
