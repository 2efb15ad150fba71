"""A proxy before an S3 server that makes it fail in chosen ways."""

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from tests.servers import S3Server

_OWN_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}
_ACCESS_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
Fault = Literal[
    "none",
    "501",
    "503",
    "refused",
    "drop request",
    "drop answer",
    "cut answer",
    "page",
    "other body",
    "other etag",
]


@contextmanager
def faulty_proxy(upstream: S3Server, fault: Callable[[], Fault]) -> Iterator[S3Server]:
    """A server that hands each request on to `upstream`, except for what `fault()` says of this one.

    "503" answers as a busy load balancer does, "501" as a server that does not know what is asked of it,
    "refused" as S3 does for an object that the user may not read, to requests for objects named secret*,
    "drop request" closes the connection before anything was done, "drop answer" after the request was
    carried out, "cut answer" in the middle of the answer, "page" answers as a login page does, with 200,
    "other body" hands on an answer with another body each time, and "other etag" one whose ETag is no MD5.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            today = fault()
            if today in ("501", "503", "page"):
                page = f"<html><body>{today}</body></html>".encode()
                self.send_response(200 if today == "page" else int(today))
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else page)
                return
            if today == "refused" and "/secret" in urlsplit(self.path).path:
                self.send_response(403)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(_ACCESS_DENIED)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else _ACCESS_DENIED)
                return
            if today == "drop request":
                self.close_connection = True
                return
            status, headers, answer = self._ask_upstream(body)
            if today == "drop answer":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers:
                if name == "ETag" and today == "other etag":
                    self.send_header(name, f'"{hashlib.sha1(answer).hexdigest()[:32]}"')
                elif name.lower() not in _OWN_HEADERS:
                    self.send_header(name, value)
            length = dict(headers).get("Content-Length") if self.command == "HEAD" else str(len(answer))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if today == "other body":
                answer = secrets.token_bytes(len(answer))
            if today == "cut answer":
                answer = answer[: len(answer) // 2]
                self.close_connection = True
            self.wfile.write(answer)

        def _ask_upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = HTTPConnection("127.0.0.1", upstream.port, timeout=30)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in ("expect", "connection"):
                        connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 (names of http.server)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield S3Server(port=server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
