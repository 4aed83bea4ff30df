"""The local server: pages of all runs under a folder, refreshed while they train.

Made of `http.server` alone: a handful of routes on the loopback address, for one person, with every
check written out where it can be read (docs/decisions/0075).
"""

from __future__ import annotations

import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from holdfast.errors import CheckpointNotFoundError, ConfigError, HoldfastError
from holdfast.report.extras import report_module
from holdfast.report.serve_access import Access, access_for, check_host
from holdfast.report.serve_site import COMPARED_MAX, Site, served_asset
from holdfast.report.vega import vega_script
from holdfast.report.write import NEEDED

_BODY_BYTES_MAX = 16_384
_TIMEOUT_SECONDS = 30.0
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class ReportServer:
    """Serves the runs under `root` until `close`; `address` is what to open, token included.

    port: 0 takes a free one. host: an address of this machine; one that others reach only with
    allow_remote. As a context manager it serves in a thread of its own.
    Raises ConfigError for a host or port that cannot be had, or without the extra `report`,
    CheckpointNotFoundError if there is no such folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
    ) -> None:
        if not root.is_dir():
            raise CheckpointNotFoundError("There is no such folder", where=str(root))
        for library in NEEDED:
            report_module(library)
        check_host(host, allow_remote=allow_remote)
        try:
            self._server = _Server((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"Port {port} of {host} cannot be had: {error}", fix="give another --port, or 0"
            ) from error
        self.host, self.port = host, int(self._server.server_address[1])
        self._server.access = access_for(host, self.port)
        self._server.site = Site(root, self._server.access.write_token)
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """What to open in a browser. Whoever has it can read the runs and pin checkpoints."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/?token={self._server.access.token}"

    def serve(self) -> None:
        """Serve in this thread until `close` is called in another, or an exception comes."""
        threading.Thread(target=vega_script, daemon=True).start()
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop serving and free the port."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> ReportServer:
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    access: Access
    site: Site

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle is nothing to print; anything else is."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request. Anything that is not expressly answered is refused."""

    server: _Server
    server_version = "holdfast"
    sys_version = ""
    timeout = _TIMEOUT_SECONDS

    def do_GET(self) -> None:
        """Pages and assets."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Pins, and nothing else."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: addresses hold the token."""

    def _answer(self, route: Any) -> None:
        if not self.server.access.knows_host(self._given):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "This server has another name.")
            return
        try:
            route(urlsplit(self.path))
        except CheckpointNotFoundError as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        except ConfigError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (HoldfastError, OSError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    @property
    def _given(self) -> dict[str, str]:
        """The headers; of one that came twice, the first decides nothing: it is refused."""
        names = [name.title() for name in self.headers]
        return {
            name: self.headers.get(name, "") if names.count(name) == 1 else "" for name in names
        }

    def _get(self, address: Any) -> None:
        access = self.server.access
        asked = parse_qs(address.query)
        if address.path.startswith("/assets/"):
            self._asset(address.path.removeprefix("/assets/"))
            return
        if "token" in asked and access.is_token(asked["token"][0]):
            self._send(b"", HTTPStatus.SEE_OTHER, {"Location": "/", "Set-Cookie": access.cookie()})
            return
        if not access.may_read(self._given):
            self._refuse(
                HTTPStatus.UNAUTHORIZED,
                "Open the address that `holdfast ui` printed: it has a token.",
            )
            return
        if address.path == "/":
            self._page(None)
        elif address.path.startswith("/run/"):
            self._page([unquote(address.path.removeprefix("/run/"))])
        elif address.path == "/compare" and 0 < len(asked.get("run", ())) <= COMPARED_MAX:
            self._page(list(dict.fromkeys(asked["run"])))
        else:
            raise CheckpointNotFoundError("There is no such page")

    def _page(self, keys: list[str] | None) -> None:
        site = self.server.site
        version = f'"{site.version(keys)}"'
        if self.headers.get("If-None-Match") == version:
            self._send(b"", HTTPStatus.NOT_MODIFIED, {"ETag": version})
            return
        page = site.page(keys)
        headers = {
            "ETag": f'"{page.version}"',
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
        }
        self._send(page.html.encode(), HTTPStatus.OK, headers)

    def _asset(self, name: str) -> None:
        kind = _TYPES.get(name.rpartition(".")[2], "")
        headers = {"Content-Type": kind, "Cache-Control": "private, max-age=600"}
        self._send(served_asset(name), HTTPStatus.OK, headers)

    def _post(self, address: Any) -> None:
        if not self.server.access.may_write(self._given):
            self._refuse(HTTPStatus.FORBIDDEN, "Only this server's own pages may write.")
            return
        if address.path != "/pin":
            raise CheckpointNotFoundError("There is nothing of that name to write")
        asked = self._body()
        run, name, reason = (asked.get(key) for key in ("run", "checkpoint", "reason"))
        well_formed = (
            isinstance(run, str) and isinstance(name, str) and isinstance(reason, (str, type(None)))
        )
        if not well_formed:
            raise ConfigError('A pin is {"run", "checkpoint", "reason"}; null takes it away')
        self.server.site.set_pin(str(run), str(name), reason)
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        self._send(b'{"done": true}', HTTPStatus.OK, headers)

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _BODY_BYTES_MAX:
            raise ConfigError("The request is too long, or does not say how long it is")
        try:
            value = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise ConfigError("The request is no JSON") from error
        return value if isinstance(value, dict) else {}

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(why.encode(), status, {"Content-Type": "text/plain; charset=utf-8"})

    def _send(self, body: bytes, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
