"""A proxy in front of a server that keeps the bytes of its responses."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

Recorded = tuple[int, dict[str, str], bytes]


class RecordingProxy(ThreadingHTTPServer):
    """A server in a thread that passes requests on to a base URL.

    Attributes:
        responses: Status, headers (names in lower case) and body of each response, in order.
    """

    daemon_threads = True

    def __init__(self, base_url: str) -> None:
        self.target = urlsplit(base_url)
        self.responses: list[Recorded] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def base_url(self) -> str:
        """The base URL for a client."""
        return f"http://127.0.0.1:{self.server_port}{self.target.path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RecordingProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in {"host", "connection", "accept-encoding"}
        }
        connection = http.client.HTTPConnection(self.server.target.netloc, timeout=60)
        try:
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        own = {name.lower(): value for name, value in response.getheaders()}
        self.server.responses.append((response.status, own, content))
        self.send_response_only(response.status)
        self.send_header("content-type", own.get("content-type", "application/json"))
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815 - the name that http.server calls

    def log_message(self, *_arguments: object) -> None:
        pass
