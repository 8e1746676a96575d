"""Whether each loop of the worker still does its work, and a port that says so.

The port is served by a thread of its own, so it answers also while the event loop is blocked.
"""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aioq._clock import monotonic
from aioq.errors import ConfigurationError

__all__ = ["Health", "HealthServer"]

PARDON = 1.0
"""Seconds for which a loop may fail before that shows: a lost connection is no outage."""


class Health:
    """When each loop last succeeded, how long it may be silent, and since when it fails."""

    def __init__(self) -> None:
        self._loops: dict[str, tuple[float, float]] = {}
        self._failing: dict[str, float] = {}

    def expect(self, name: str, within: float) -> None:
        """A loop that must report at least every ``within`` seconds."""
        self._loops[name] = (monotonic(), within)

    def ok(self, name: str) -> None:
        """The loop has just done its work; loops nobody expects anything of may report, too."""
        if name in self._loops:
            self._loops[name] = (monotonic(), self._loops[name][1])
        self._failing.pop(name, None)

    def failed(self, name: str) -> None:
        """The loop could not do its work, and goes on trying."""
        self._failing.setdefault(name, monotonic())

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and each loop's silence in seconds."""
        now = monotonic()
        loops = {
            name: {
                "ok": now - last <= within and now - self._failing.get(name, now) <= PARDON,
                "silent_for": round(now - last, 3),
            }
            for name, (last, within) in list(self._loops.items())
        }
        well = all(entry["ok"] for entry in loops.values())
        return well, {"status": "ok" if well else "failing", "loops": loops}

    def alive(self) -> bool:
        """Whether the event loop itself turns."""
        last, within = self._loops["event_loop"]
        return monotonic() - last <= within


class HealthServer:
    """``/readyz``: 200 while all loops work, else 503. ``/livez``: 503 when the event loop is
    blocked for good and the process should be replaced.

    Raises:
        ConfigurationError: the port cannot be bound.
    """

    def __init__(self, health: Health, host: str, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(health))
        except OSError as exc:
            raise ConfigurationError(
                f"the health port {host}:{port} cannot be opened: {exc.strerror or exc}"
            ) from exc
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            well, report = health.report()
            match self.path.partition("?")[0].rstrip("/"):
                case "/livez":
                    well = health.alive()
                case "/readyz" | "":
                    pass
                case _:
                    return self.send_error(HTTPStatus.NOT_FOUND)
            body = json.dumps(report).encode()
            self.send_response(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not worth a line each."""

    return Handler
