"""What fake-gcs-server lacks: the requests of the XML API of Google Cloud Storage that write objects.

A server in front of it that answers these, as the reference of that API says, and passes all others on.
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4
from xml.etree import ElementTree

import httpx

LEAST_PART_BYTES = 5 * 1024 * 1024
"""of all parts but the last"""
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "host", "content-encoding"}


class GcsWrites:
    """Listens on a free port of the loopback address; `url` is where, `behind` what is asked for all else."""

    def __init__(self, behind: str) -> None:
        self.parts: dict[str, dict[int, bytes]] = {}
        self.behind = httpx.Client(base_url=behind, timeout=60)
        outer = self

        class Handler(_Handler):
            front = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def write(self, bucket: str, key: str, data: bytes) -> int:
        """Make an object; the status of the answer."""
        params = {"uploadType": "media", "name": key}
        return self.behind.post(f"/upload/storage/v1/b/{bucket}/o", params=params, content=data).status_code

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.behind.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: GcsWrites

    def do_PUT(self) -> None:
        bucket, key, query = self._place()
        data = self._body()
        if "uploadId" in query:
            parts = self.front.parts.get(query["uploadId"])
            if parts is None:
                self._refuse(404, "NoSuchUpload")
                return
            parts[int(query["partNumber"])] = data
            self._answer(200, etag=_etag(data))
            return
        self._written(self.front.write(bucket, key, data), data)

    def do_POST(self) -> None:
        bucket, key, query = self._place()
        body = self._body()
        if "uploads" in query:
            if self.front.behind.get(f"/storage/v1/b/{bucket}").status_code != 200:
                self._refuse(404, "NoSuchBucket")
                return
            upload_id = uuid4().hex
            self.front.parts[upload_id] = {}
            self._answer(200, _document("InitiateMultipartUploadResult", UploadId=upload_id))
        elif "uploadId" in query:
            self._complete(bucket, key, query["uploadId"], body)
        else:
            self._pass_on(body)

    def do_GET(self) -> None:
        self._pass_on(self._body())

    def do_HEAD(self) -> None:
        self._pass_on(b"")

    def do_DELETE(self) -> None:
        _, _, query = self._place()
        if self.front.parts.pop(query.get("uploadId", ""), None) is not None:
            self._answer(204)
            return
        self._pass_on(b"")

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def _complete(self, bucket: str, key: str, upload_id: str, body: bytes) -> None:
        parts = self.front.parts.pop(upload_id, None)
        if parts is None:
            self._refuse(404, "NoSuchUpload")
            return
        named = [
            (int(_text(part, "PartNumber")), _text(part, "ETag").strip('"'))
            for part in ElementTree.fromstring(body)  # noqa: S314 - of the client under test
        ]
        if [number for number, _ in named] != sorted(parts) or any(
            etag != _etag(parts[number]).strip('"') for number, etag in named
        ):
            self._refuse(400, "InvalidPart")
            return
        pieces = [parts[number] for number in sorted(parts)]
        if any(len(piece) < LEAST_PART_BYTES for piece in pieces[:-1]):
            self._refuse(400, "EntityTooSmall")
            return
        data = b"".join(pieces)
        self._written(
            self.front.write(bucket, key, data), data, _document("CompleteMultipartUploadResult", ETag=_etag(data))
        )

    def _written(self, status: int, data: bytes, document: bytes = b"") -> None:
        if status == 404:
            self._refuse(404, "NoSuchBucket")
            return
        self._answer(status, document, etag=_etag(data))

    def _pass_on(self, body: bytes) -> None:
        kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        kept["Accept-Encoding"] = "identity"
        answer = self.front.behind.request(self.command, self.path, headers=kept, content=body)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.headers.get("content-length", "0") if self.command == "HEAD" else str(len(answer.content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def _place(self) -> tuple[str, str, dict[str, str]]:
        """Bucket, key and query of the request."""
        split = urlsplit(self.path)
        bucket, _, key = split.path.lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        return unquote(bucket), unquote(key), query

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _answer(self, status: int, document: bytes = b"", *, etag: str = "") -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
            self.send_header("x-goog-generation", "1")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, _document("Error", Code=code))


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _document(name: str, **members: str) -> bytes:
    root = ElementTree.Element(name)
    for member, text in members.items():
        ElementTree.SubElement(root, member).text = text
    return ElementTree.tostring(root)


def _text(part: Any, name: str) -> str:
    return next(child.text or "" for child in part if child.tag.rpartition("}")[2] == name)
