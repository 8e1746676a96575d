"""An OTLP/HTTP receiver in this process: what exporters of other processes send."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from servers.ports import HOST

__all__ = ["Receiver"]

PATIENCE = 180.0


class Receiver:
    """Serves for as long as a ``with`` block lasts.

    Attributes:
        spans: all that came, as protobuf messages.
        metrics: names of all metrics that came.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        with self._news:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        self.spans += scope.spans
            elif path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics |= {metric.name for metric in scope.metrics}
            self._news.notify_all()

    def wait_for(self, *names: str) -> list[Any]:
        """All spans, in the order of their start, once so many of these names have come."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                found = [span.name for span in self.spans]
                if all(found.count(name) >= names.count(name) for name in names):
                    return sorted(self.spans, key=lambda span: span.start_time_unix_nano)
                left = deadline - time.monotonic()
                assert left > 0, f"wanted {names}, found {found}"
                self._news.wait(left)

    def environment(self, delay_ms: int = 100) -> dict[str, str]:
        """What makes ``opentelemetry-instrument`` export to here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": str(delay_ms),
        }

    def __enter__(self) -> "Receiver":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
