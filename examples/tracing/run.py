"""Starts a backend, an endpoint and a worker, signs somebody up, and prints the trace.

With ``--stay`` everything stays up, for a look at the backend's own pages.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from backend import PATIENCE, Backend, NoNode, free_port, install

HERE = Path(__file__).parent
EXPECTED = (
    *("POST /signup/{name}", "enqueue welcome"),
    *("process welcome", "smtp"),
    *("process welcome", "smtp", "enqueue count"),
    *("process count", "update statistics"),
)
"""The spans of one sign-up; those of the two processes arrive in any order."""


def start(environment: dict[str, str], *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=HERE, env={**os.environ, **environment}
    )


class Ended(Exception):
    """A process is not there any more."""


def sign_up(port: int, name: str, *needed: "subprocess.Popen[bytes]") -> None:
    """One request, as soon as the endpoint answers.

    Raises:
        Ended: one of the processes that are needed has ended.
    """
    deadline = time.monotonic() + PATIENCE
    request = urllib.request.Request(f"http://127.0.0.1:{port}/signup/{name}", method="POST")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                return
        except urllib.error.URLError:
            for process in needed:
                if process.poll() is not None:
                    what = " ".join(map(str, process.args[1:4]))  # type: ignore[index]
                    raise Ended(
                        f"`{what}` has ended. What the example needs is listed in docs/otel.md."
                    ) from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def tree(spans: list[dict[str, Any]], parent: str | None = None, depth: int = 0) -> None:
    """Print the spans below ``parent``, each behind the process it came from."""
    ids = {span["spanId"] for span in spans}
    for span in spans:
        above = span.get("parentSpanId")
        if above == parent or (parent is None and above not in ids):
            service = span["attributes"].get("service.name", "?")
            outcome = span["attributes"].get("aioq.job.outcome", "")
            print(f"{service:7} {'  ' * depth}{span['name']} {outcome}".rstrip())
            tree(spans, span["spanId"], depth + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="stay up until Ctrl-C")
    parser.add_argument(
        "--ports",
        nargs=3,
        type=int,
        metavar=("BACKEND", "GRPC", "WEB"),
        help="where to listen, instead of on ports that are free",
    )
    arguments = parser.parse_args()
    port, grpc, web_port = arguments.ports or (free_port(), free_port(), free_port())
    try:
        command = install()
    except (NoNode, RuntimeError) as exc:
        print(exc, file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="aioq-") as folder,
        Backend(command, port=port, grpc=grpc) as backend,
    ):
        store = {"AIOQ_BROKER_URL": f"sqlite:///{Path(folder, 'tracing.db').as_posix()}"}
        web = start(
            {**store, **backend.environment("web")},
            *("uvicorn", "web:web", "--port", str(web_port), "--log-level", "warning"),
        )
        worker = start(
            {**store, **backend.environment("worker")},
            *("aioq", "worker", "tasks:app", "--log-format", "console"),
        )
        try:
            sign_up(web_port, "Ada", web, worker)
            spans = backend.wait_for(*EXPECTED)
            print()
            tree(spans)
            if arguments.stay:
                print(f"\nthe backend is at {backend.url}; Ctrl-C ends everything")
                web.wait()
        except Ended as exc:
            print(exc, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass
        finally:
            for process in (web, worker):
                process.terminate()
            for process in (web, worker):
                process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
