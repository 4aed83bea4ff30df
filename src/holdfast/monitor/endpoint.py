"""A monitor's figures over HTTP, for a scraper on the same host."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from holdfast import jsontext
from holdfast.errors import ConfigError
from holdfast.monitor.monitor import Monitor
from holdfast.monitor.prometheus import MetricsText

LOOPBACK = "127.0.0.1"


class MetricsServer:
    """`/metrics` for Prometheus and `/json`; a context manager, or `close()` it.

    Made by `serve_metrics`.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, name="holdfast-metrics", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers, without a path."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop answering; returns when the port is free. Calling it again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve_metrics(monitor: Monitor, *, port: int = 0) -> MetricsServer:
    """Answer on the loopback interface in a thread of its own. port: 0 for any free one.

    Only processes of this host can ask: there is no access control. Raises ConfigError if
    prometheus-client is not installed or the port is taken.
    """
    text = MetricsText(monitor)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer one request."""
            if self.path == "/metrics":
                self._answer(200, text.content_type, text.text().encode())
            elif self.path == "/json":
                body = jsontext.dump(monitor.snapshot(), indent=2)
                self._answer(200, "application/json", body)
            else:
                self._answer(404, "text/plain", b"There is /metrics and /json\n")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: scrapes are no events."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        return MetricsServer(ThreadingHTTPServer((LOOPBACK, port), Handler))
    except OSError as error:
        raise ConfigError(
            f"Metrics cannot be served on port {port}: {error}", fix="choose another port, or 0"
        ) from error
