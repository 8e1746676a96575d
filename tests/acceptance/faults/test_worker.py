"""A store that is gone, slow or half-open never ends a worker, and its health port says so."""

import signal
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException
from types import ModuleType

import anyio
import anyio.to_thread
import pytest
from acceptance.harness import Fleet, Journal, eventually, promised
from acceptance.stores import Server
from servers.ports import free_port
from servers.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


class Patient:
    """A worker under a fault, seen through its health port."""

    def __init__(self, server: Server, proxy: Proxy, port: int) -> None:
        self.server = server
        self.proxy = proxy
        self._port = port

    def status(self) -> int:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()

    async def until_status(self, wanted: int, within: float) -> float:
        async def holds() -> bool:
            return await anyio.to_thread.run_sync(self.status) == wanted

        return await eventually(holds, within, lambda: self.status())


async def killed(patient: Patient) -> None:
    """The server dies, and is back only after the worker has noticed."""
    await anyio.to_thread.run_sync(patient.server.kill)
    await patient.until_status(503, within=5)
    await anyio.to_thread.run_sync(patient.server.start)


async def cut(patient: Patient) -> None:
    """Every connection is reset, once."""
    await anyio.to_thread.run_sync(patient.proxy.cut)


async def refused(patient: Patient) -> None:
    """Every connection is reset, and new ones as well until the worker has noticed."""
    await anyio.to_thread.run_sync(patient.proxy.refuse)
    await patient.until_status(503, within=5)
    patient.proxy.accept()


async def held(patient: Patient) -> None:
    """No byte passes for five seconds, and until the worker has noticed: a call may take five."""
    await anyio.to_thread.run_sync(patient.proxy.hold)
    await anyio.sleep(5)
    await patient.until_status(503, within=8)
    await anyio.to_thread.run_sync(patient.proxy.release)


async def half_open(patient: Patient) -> None:
    """The connections lead nowhere for good; new ones work."""
    await anyio.to_thread.run_sync(patient.proxy.forget)


@pytest.mark.parametrize(
    ("fault", "within"), [(killed, 5), (cut, 5), (refused, 5), (held, 5), (half_open, 10)]
)
async def test_a_worker_outlives_its_store_and_goes_on(
    server: Server,
    proxy: Proxy,
    jobs: ModuleType,
    fleet: Fleet,
    journal: Journal,
    fault: Callable[[Patient], Awaitable[None]],
    within: int,
) -> None:
    port = free_port()
    worker = await fleet.start("--health-port", str(port), lease=30.0)
    patient = Patient(server, proxy, port)
    first = await jobs.work.enqueue()
    await first.finished(timeout=promised(10))
    long = await jobs.work.enqueue(2.0)
    await eventually(lambda: journal.of(long.id) != [], 5)
    await patient.until_status(200, within=5)
    await fault(patient)
    over = time.monotonic()
    again = await jobs.work.enqueue()
    await eventually(lambda: journal.of(again.id) != [], within + 5, worker.text)
    consumed = journal.of(again.id)[0].at - over
    print(f"consumed again after {consumed:.2f} s")
    assert consumed <= promised(within), f"consumed again only {consumed:.1f} s after the fault"
    await patient.until_status(200, within=10)
    await long.finished(timeout=promised(20))
    assert (long.status, len(journal.of(long.id))) == ("completed", 1)
    assert worker.process.poll() is None
    worker.signal(signal.SIGTERM)
    assert worker.wait(timeout=10) == 0
