"""A bucket over plain HTTP, as S3's clients see one, that can be away in several ways."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

State = Literal["serving", "unavailable", "silent", "cut", "answer lost"]
"""`cut`: connections end amid a request or an answer. `answer lost`: they end when the request has been obeyed."""


class Bucket:
    """Keeps what is put, by path. Mutable: `state` is what it does from now on."""

    def __init__(self) -> None:
        self.state: State = "serving"
        self.kept: dict[str, bytes] = {}
        self.ending = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.bucket = self

    @property
    def environment(self) -> Mapping[str, str]:
        """The usual variables, by which a client finds it; it gives up after a second, and asks again."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_TIMEOUT": "1s",
        }

    def serve(self) -> None:
        """Answer until it is closed."""
        self._server.serve_forever()

    def close(self) -> None:
        """End, also who waits for an answer."""
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def bucket(setenv: Callable[[str, str], None]) -> Iterator[Bucket]:
    """One that answers until the end of the block; clients find it by the variables that are set here."""
    made = Bucket()
    for name, value in made.environment.items():
        setenv(name, value)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()


class _Server(ThreadingHTTPServer):
    bucket: Bucket


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        kept, body = self.server.bucket.kept, self.rfile.read(int(self.headers["content-length"]))
        if self._is_away():
            return
        if self.path in kept and self.headers["if-none-match"] == "*":
            self._answer(412)
            return
        kept[self.path] = body
        self._answer(200)

    def do_GET(self) -> None:
        if self._is_away():
            return
        body = self.server.bucket.kept.get(self.path)
        self._answer(404 if body is None else 200, body or b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_away(self) -> bool:
        """Whether the request comes to nothing; it has been answered so, or not at all, then."""
        bucket = self.server.bucket
        if bucket.state == "unavailable":
            self._answer(503)
        elif bucket.state == "silent":
            bucket.ending.wait()
        elif bucket.state == "cut" and self.command == "PUT":
            self.close_connection = True
        else:
            return False
        return True

    def _answer(self, status: int, body: bytes = b"") -> None:
        state = self.server.bucket.state
        self.close_connection = state in ("cut", "answer lost")
        if state == "answer lost":
            return
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        self.send_header("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if state == "cut" else body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args
