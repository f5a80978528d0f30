"""A client that costs little: whole requests as bytes over kept connections, without parsing more than it must."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import uuid4


@dataclass(frozen=True)
class Answer:
    """Of one request; status 0 where the connection broke."""

    status: int
    body: bytes = b""

    @property
    def good(self) -> bool:
        """Whether it is the wanted one, 200."""
        return self.status == 200


def request(path: str, body: bytes, content_type: str, *headers: str) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def upload(path: str, video: bytes, field: str = "file") -> bytes:
    """A POST of one file as a form, as `curl -F` sends it."""
    edge = uuid4().hex
    disposition = f'form-data; name="{field}"; filename="clip.mp4"'
    head = f"--{edge}\r\nContent-Disposition: {disposition}\r\nContent-Type: video/mp4\r\n\r\n"
    return request(
        path, head.encode() + video + f"\r\n--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"
    )


class Client:
    """Connections to one port of this machine, as many as requests are on their way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, message: bytes) -> Answer:
        """Send a request and read its whole answer."""
        while True:
            kept = bool(self._idle)
            try:
                reader, writer = self._idle.pop() if kept else await self._connect()
                writer.write(message)
                return await self._answer(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                if not kept:  # A kept connection may have been closed by the server meanwhile.
                    return Answer(0)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(None, 2)[1])
        fields = dict(line.split(":", 1) for line in head.split("\r\n")[1:-2])
        if "chunked" in fields.get("transfer-encoding", ""):
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(fields.get("content-length", 0)))
        if "close" in fields.get("connection", ""):
            writer.close()
        else:
            self._idle.append((reader, writer))
        return Answer(status, body)

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
