"""A real HTTP server for the tests: keeps what is POSTed to it, fails when told to, speaks TLS when asked to."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Keeps what is POSTed; answers with ``status``, a 3xx points to ``elsewhere``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        self.status = 204
        self.retry_after = ""
        self.elsewhere = ""
        self.tries = 0
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/hook?key=secret-key"

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(alert["id"], alert["state"]) for alert in self.taken]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tries += 1
        if self.server.status < 300:
            self.server.headers.append(dict(self.headers))
            self.server.bodies.append(raw)
            self.server.taken.append(json.loads(raw))
        self.send_response(self.server.status)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
        if self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.tries += 1000
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *_args: Any) -> None:
        del format


@contextlib.contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """One on a free loopback port, over TLS with a context."""
    server = Receiver()
    if tls is not None:
        server.scheme = "https"
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
