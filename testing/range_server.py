"""A web server of files that serves ranges, and fails in the ways that web servers do."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

PIECE_BYTES = 1 << 16
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Served:
    """One file, and how it is served."""

    data: bytes
    ranges: bool = True
    etag: str | None = '"1"'
    cut_after: int | None = None
    """bytes of each answer after which the connection breaks"""
    failing: Callable[[int], int | None] = lambda number: None
    """status instead of the answer, by the number of the request"""
    location: str | None = None
    changes_at: int | None = None
    """number of the request from which on another file is there"""
    pause_s: float = 0.0
    bytes_per_s: float = math.inf
    """of all answers together"""
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """the ranges that were asked for"""
    sent: int = 0
    link: threading.Lock = field(default_factory=threading.Lock)
    """held for as long as the link passes a piece on"""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients hang up when they have what they want."""


class RangeServer:
    """Serves `files` by their paths on a free port of this machine."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        files = self.files

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served = files.get(self.path)
                if served is None:
                    self.send_error(404)
                else:
                    _serve(self, served)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> RangeServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, served: Served) -> str:
        """Serve a file; its URL."""
        self.files[path] = served
        return f"{self.url}{path}"


def _serve(handler: BaseHTTPRequestHandler, served: Served) -> None:
    asked = handler.headers.get("Range", "")
    served.requests.append(asked)
    number = len(served.requests)
    time.sleep(served.pause_s)
    if served.location is not None:
        return _answer(handler, 302, {"Location": served.location}, b"")
    if (status := served.failing(number)) is not None:
        return _answer(handler, status, {}, b"no")
    data, etag = served.data, served.etag
    if served.changes_at is not None and number >= served.changes_at:
        data, etag = data[::-1], '"2"'
    headers = {**served.headers, **({"ETag": etag} if etag else {})}
    found = _RANGE.fullmatch(asked) if served.ranges else None
    if found is None or handler.headers.get("If-Range", etag) != etag:
        return _answer(handler, 200, headers, data, served)
    first, last = int(found[1]), min(int(found[2]), len(data) - 1)
    if first >= len(data):
        return _answer(handler, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
    headers.setdefault("Content-Range", f"bytes {first}-{last}/{len(data)}")
    return _answer(handler, 206, headers, data[first : last + 1], served)


def _answer(
    handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes, served: Served | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if served is not None and served.cut_after is not None and served.cut_after < len(body):
        body, handler.close_connection = body[: served.cut_after], True
    if served is None:
        handler.wfile.write(body)
        return
    for first in range(0, len(body), PIECE_BYTES):
        piece = body[first : first + PIECE_BYTES]
        with served.link:
            time.sleep(len(piece) / served.bytes_per_s)
        handler.wfile.write(piece)
        served.sent += len(piece)
