"""The port that says how a worker stands; imported where one is served.

A thread of its own serves it, so it answers also while the event loop is blocked.
"""

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aioq.errors import ConfigurationError
from aioq.worker._health import HealthReport

__all__ = ["HealthServer"]


class HealthServer:
    """``/readyz``: 200 while all is well, else 503. ``/livez``: 503 when only a new process helps.

    Args:
        ask: how things stand; called from the server's threads.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: the port cannot be bound.
    """

    def __init__(self, ask: Callable[[], HealthReport], host: str, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(ask))
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


def _handler(ask: Callable[[], HealthReport]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            report = ask()
            match self.path.partition("?")[0].rstrip("/"):
                case "/livez":
                    well = report.alive
                case "/readyz" | "":
                    well = report.ready
                case _:
                    return self.send_error(HTTPStatus.NOT_FOUND)
            body = json.dumps(report.as_dict()).encode()
            self.send_response(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return None

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not worth a line each."""

    return Handler
