"""What comes over a connection of RTSP (RFC 2326): replies, requests of the server, and packets between them.

Bytes in, messages out; all sizes are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.errors import SourceLimit, SourceRefused

HEAD_BYTES = 1 << 14
"""the most that the lines before a body may have"""
MOST_HEADERS = 100
BODY_BYTES = 1 << 16
_DOLLAR = b"$"
_FRAME_HEAD = 4
_STATUS = re.compile(r"RTSP/[12]\.[0-9] ([0-9]{3})(?: .*)?")
_REQUEST = re.compile(r"([A-Z_]{3,20}) \S+ RTSP/[12]\.[0-9]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100})[ \t]*:[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Reply:
    """An answer of the server. Names of headers are in lower case; one that came again has several values."""

    status: int
    headers: dict[str, tuple[str, ...]]
    body: bytes

    def header(self, name: str) -> str:
        """The first value of a header; empty where there is none."""
        return self.headers.get(name, ("",))[0]

    @property
    def number(self) -> int | None:
        """Which request it answers; None where it does not say."""
        said = self.header("cseq")
        return int(said) if _NUMBER.fullmatch(said) else None


@dataclass(frozen=True)
class Asked:
    """A request of the server, with the number that its answer has to name."""

    method: str
    number: str


@dataclass(frozen=True)
class Frame:
    """A packet on one of the channels of the connection."""

    channel: int
    data: bytes


class RtspReader:
    """Bytes as they come to messages. `next` gives None until there is a whole one."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._unread += data

    def next(self) -> Reply | Asked | Frame | None:
        """The next message. Raises SourceRefused for what is no RTSP, SourceLimit for what is too large."""
        unread = self._unread
        while unread[:2] == b"\r\n":
            del unread[:2]
        if not unread or unread == b"\r":
            return None
        return self._frame() if unread[:1] == _DOLLAR else self._message()

    def _frame(self) -> Frame | None:
        unread = self._unread
        if len(unread) < _FRAME_HEAD:
            return None
        end = _FRAME_HEAD + int.from_bytes(unread[2:4], "big")
        if len(unread) < end:
            return None
        frame = Frame(unread[1], bytes(unread[_FRAME_HEAD:end]))
        del unread[:end]
        return frame

    def _message(self) -> Reply | Asked | None:
        unread = self._unread
        end = unread.find(b"\r\n\r\n", 0, HEAD_BYTES + 4)
        if end < 0:
            # A server that speaks something else is not waited for.
            _check_start(bytes(unread[:64]))
            if len(unread) > HEAD_BYTES:
                raise _too_large("The headers of an answer of the source have", HEAD_BYTES, len(unread))
            return None
        first, *lines = bytes(unread[:end]).decode("latin-1").split("\r\n")
        headers = _headers(lines)
        size = _body_bytes(headers)
        begin = end + 4
        if len(unread) < begin + size:
            return None
        body = bytes(unread[begin : begin + size])
        del unread[: begin + size]
        if status := _STATUS.fullmatch(first):
            return Reply(int(status[1]), headers, body)
        if request := _REQUEST.fullmatch(first):
            number = headers.get("cseq", ("",))[0]
            return Asked(request[1], number if _NUMBER.fullmatch(number) else "0")
        raise _no_rtsp(first)


def _headers(lines: list[str]) -> dict[str, tuple[str, ...]]:
    if len(lines) > MOST_HEADERS:
        raise SourceLimit(
            f"An answer of the source has {len(lines)} headers; at most {MOST_HEADERS} are read.",
            limit=MOST_HEADERS,
            actual=len(lines),
        )
    headers: dict[str, tuple[str, ...]] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise SourceRefused(f"An answer of the source has a line that is no header: {line[:80]!r}.")
        name = found[1].lower()
        headers[name] = (*headers.get(name, ()), found[2])
    return headers


def _body_bytes(headers: dict[str, tuple[str, ...]]) -> int:
    said = set(headers.get("content-length", ("0",)))
    if len(said) != 1 or not _NUMBER.fullmatch(length := said.pop()):
        raise SourceRefused("An answer of the source does not say how many bytes it has.")
    if int(length) > BODY_BYTES:
        raise _too_large("The description of the source has", BODY_BYTES, int(length))
    return int(length)


def _check_start(data: bytes) -> None:
    """Raise SourceRefused where these cannot be the first bytes of a message."""
    text = data.decode("latin-1").split("\r\n")[0]
    if not re.match(r"(R|RT|RTS|RTSP(/.*)?|[A-Z_]{1,20}( .*)?)\Z", text):
        raise _no_rtsp(text)


def _no_rtsp(text: str) -> SourceRefused:
    return SourceRefused(f"The server of the source does not speak RTSP: it says {text[:40]!r}.", actual=text[:40])


def _too_large(what: str, limit: int, actual: int) -> SourceLimit:
    return SourceLimit(f"{what} {actual} bytes; at most {limit} are read.", limit=limit, actual=actual)
