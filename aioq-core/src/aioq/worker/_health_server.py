"""The port that says how a worker stands; imported where one is served.

A thread of its own serves it, so it answers also while the event loop is blocked.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
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
            self._server = _server(host)((host, port), _handler(ask))
        except OSError as exc:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise ConfigurationError(
                f"the health port {where} cannot be opened: {exc.strerror or exc}"
            ) from exc
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    # http.server's own looks up the host's name at the start, which may take a while
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A probe that has hung up is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        # ``::`` takes IPv4 as well, whatever the system's own choice is
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _server(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


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
