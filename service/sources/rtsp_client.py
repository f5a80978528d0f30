"""Plays the video of a server of RTSP over one connection, as packets between its answers (RFC 2326, 10.12)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import httpcore

from service.contracts.rtp_records import DESCRIPTION, PACKET, record
from service.errors import SourceRefused
from service.sources.config import SourceConfig
from service.sources.ranges import LATER, REDIRECTS, Broken, check_source
from service.sources.rtsp_auth import Authorization
from service.sources.rtsp_messages import Asked, Frame, Reply, RtspReader
from service.sources.rtsp_urls import check_downgrade, joined, own
from service.sources.sdp import first_video
from service.sources.stream_logins import StreamLogin, StreamLogins

RTSP = ("rtsps", "rtsp")
_PORTS = {"rtsp": 554, "rtsps": 322}
_READ_BYTES = 1 << 16
_USER_AGENT = "vidtr-sources"
# Without a word of the server a session lasts this long (RFC 2326, 12.37).
_SESSION_S = 60
_SHORTEST_SESSION_S = 2
# Before the session would end, whatever the server's clock says.
_KEEP_SHARE = 0.5
_GOODBYE_S = 1.0
_SESSION = re.compile(r"([A-Za-z0-9$_.+-]{1,128})[ \t]*(?:;[ \t]*timeout[ \t]*=[ \t]*([0-9]{1,6}))?[ \t]*(?:;.*)?")
_CHANNELS = re.compile(r"interleaved=([0-9]{1,3})(?:-[0-9]{1,3})?")
_NO_METHOD = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
# Not enough bandwidth, and a session that is gone: both of RTSP alone.
_RTSP_LATER = (453, 454)
_BYE = 203


class RtspClient:
    """Plays streams. Every URL is checked, with those that redirects lead to, and connects only where it may."""

    def __init__(
        self,
        config: SourceConfig,
        backend: httpcore.AsyncNetworkBackend,
        logins: StreamLogins,
        idle_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """What says nothing for `idle_s` is broken. `tls` verifies servers; the usual authorities when absent."""
        self._config = config
        self._backend = backend
        self._logins = logins
        self._idle_s = idle_s
        self._tls = tls

    async def play(self, url: str, credentials: str | None) -> AsyncGenerator[bytes, None]:
        """The video, as records of `service.contracts.rtp_records`, several at a time, until it ends.

        Raises:
            Broken, httpcore.NetworkError, httpcore.TimeoutException: not now.
            SourceNotAllowed, SourceRefused, SourceLimit, ForbiddenTarget: never.
        """
        for _ in range(self._config.source_max_redirects + 1):
            check_source(url, self._config, RTSP)
            login = self._login(url, credentials)
            async with self._connected(url) as connection:
                try:
                    async with asyncio.timeout(self._config.source_timeout_s):
                        session = await _Session.begin(connection, url, login)
                except TimeoutError:
                    limit = self._config.source_timeout_s
                    raise Broken(f"the server did not begin to play within {limit:g} s") from None
                if isinstance(session, str):
                    check_downgrade(url, session)
                    url = session
                    continue
                async with aclosing(session.records(self._idle_s)) as pieces:
                    async for records in pieces:
                        yield records
                return
        limit = self._config.source_max_redirects
        raise SourceRefused(f"The source redirects more than {limit} times.", limit=limit)

    def _login(self, url: str, credentials: str | None) -> StreamLogin | None:
        return None if credentials is None else self._logins.find(credentials, urlsplit(url).hostname or "")

    @asynccontextmanager
    async def _connected(self, url: str) -> AsyncIterator[_Connection]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        stream = await self._backend.connect_tcp(host, parts.port or _PORTS[parts.scheme], self._idle_s)
        try:
            if parts.scheme == "rtsps":
                context = self._tls or httpcore.default_ssl_context()
                stream = await stream.start_tls(context, host, self._idle_s)
            yield _Connection(stream, self._idle_s)
        finally:
            await stream.aclose()


class _Connection:
    """Requests and answers over one connection. Packets that come before it plays are passed over."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, idle_s: float) -> None:
        self._stream = stream
        self._idle_s = idle_s
        self._reader = RtspReader()
        self._number = 0

    async def send(self, method: str, url: str, headers: dict[str, str]) -> int:
        """Send a request; its number."""
        self._number += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._number}", f"User-Agent: {_USER_AGENT}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self._stream.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"), self._idle_s)
        return self._number

    async def answer(self, number: int) -> Reply:
        """The answer to the request of this number."""
        while True:
            for message in await self.messages(self._idle_s):
                if isinstance(message, Reply) and message.number in (number, None):
                    return message

    async def messages(self, timeout_s: float) -> list[Reply | Frame]:
        """What has come, at least once something did. Raises Broken at the end of the connection."""
        data = await self._stream.read(_READ_BYTES, timeout_s)
        if not data:
            raise Broken("the connection ended")
        self._reader.feed(data)
        found: list[Reply | Frame] = []
        while (message := self._reader.next()) is not None:
            if isinstance(message, Asked):
                await self._refuse(message)
            else:
                found.append(message)
        return found

    async def _refuse(self, asked: Asked) -> None:
        status = "200 OK" if asked.method in ("OPTIONS", "GET_PARAMETER") else "501 Not Implemented"
        await self._stream.write(f"RTSP/1.0 {status}\r\nCSeq: {asked.number}\r\n\r\n".encode(), self._idle_s)


class _Session:
    """A session that is about to play."""

    def __init__(self, connection: _Connection, url: str, login: StreamLogin | None) -> None:
        self._connection = connection
        self._url = url
        self._login = login
        self._authorization: Authorization | None = None
        self._id = ""
        self._keep_s = _SESSION_S * _KEEP_SHARE
        self._keep_by = "OPTIONS"
        self._video = b""
        self._channel = 0

    @classmethod
    async def begin(cls, connection: _Connection, url: str, login: StreamLogin | None) -> _Session | str:
        """A session that is set up, or the URL that the server sends to."""
        session = cls(connection, url, login)
        return await session._set_up() or session

    async def _set_up(self) -> str | None:
        offered = await self._ask("OPTIONS", self._url)
        if offered.status in REDIRECTS and offered.header("location"):
            return offered.header("location")
        if "GET_PARAMETER" in offered.header("public"):
            self._keep_by = "GET_PARAMETER"
        described = await self._ask("DESCRIBE", self._url, {"Accept": "application/sdp"})
        if described.status in REDIRECTS and described.header("location"):
            return described.header("location")
        _check(described)
        found = first_video(described.body.decode("utf-8", "replace"))
        self._video = record(DESCRIPTION, found.video.model_dump_json().encode())
        base = described.header("content-base") or described.header("content-location")
        self._url = own(self._url, base) if base else self._url
        track = joined(self._url, found.control)
        wanted = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        prepared = await self._ask("SETUP", track, wanted)
        _check(prepared)
        self._read_session(prepared)
        return None

    def _read_session(self, reply: Reply) -> None:
        said = _SESSION.fullmatch(reply.header("session"))
        if said is None:
            raise SourceRefused("The source names no session that can be played.")
        self._id = said[1]
        lasts_s = int(said[2]) if said[2] else _SESSION_S
        self._keep_s = max(_SHORTEST_SESSION_S, lasts_s) * _KEEP_SHARE
        transport = reply.header("transport")
        channels = _CHANNELS.search(transport)
        if channels is None or int(channels[1]) >= 0xFF:
            raise SourceRefused(
                f"The source sends its packets otherwise than over its connection: {transport[:80]!r}.",
                actual=transport[:80],
            )
        self._channel = int(channels[1])

    async def records(self, idle_s: float) -> AsyncGenerator[bytes, None]:
        """Play. What brings no packet of the video for `idle_s` is broken."""
        clock = asyncio.get_running_loop().time
        playing = await self._send("PLAY", self._url, {"Range": "npt=0.000-"})
        last_at = kept_at = clock()
        try:
            yield self._video
            while True:
                left_s = min(last_at + idle_s, kept_at + self._keep_s) - clock()
                try:
                    messages = await self._connection.messages(max(0.001, left_s))
                except httpcore.ReadTimeout:
                    messages = []
                packets, ended = self._packets(messages, playing)
                if packets:
                    yield packets
                    # Time that the reader took is none of the camera's.
                    last_at = clock()
                if ended:
                    return
                if clock() - last_at >= idle_s:
                    raise Broken(f"the server sent no packet of the video for {idle_s:g} s")
                if clock() - kept_at >= self._keep_s:
                    await self._send(self._keep_by, self._url)
                    kept_at = clock()
        finally:
            with contextlib.suppress(TimeoutError, OSError, httpcore.NetworkError, httpcore.TimeoutException):
                async with asyncio.timeout(_GOODBYE_S):
                    await self._send("TEARDOWN", self._url)

    def _packets(self, messages: list[Reply | Frame], playing: int) -> tuple[bytes, bool]:
        """The packets of the video among what has come, as records, and whether it has ended with them."""
        found, ended = [], False
        for message in messages:
            if isinstance(message, Reply):
                if message.number == playing:
                    _check(message)
            elif message.channel == self._channel:
                found.append(record(PACKET, message.data))
            elif message.channel == self._channel + 1:
                ended = ended or _says_goodbye(message.data)
        return b"".join(found), ended

    async def _ask(self, method: str, url: str, headers: dict[str, str] | None = None) -> Reply:
        reply = await self._connection.answer(await self._send(method, url, headers))
        if reply.status != HTTPStatus.UNAUTHORIZED or self._login is None:
            return reply
        known = self._authorization
        offered = reply.headers.get("www-authenticate", ())
        # Once more also where the server has grown tired of its own challenge.
        if known is None or any("stale=true" in one.lower().replace('"', "") for one in offered):
            self._authorization = Authorization(self._login, offered)
            reply = await self._connection.answer(await self._send(method, url, headers))
        return reply

    async def _send(self, method: str, url: str, headers: dict[str, str] | None = None) -> int:
        said = dict(headers or {})
        if self._id:
            said["Session"] = self._id
        if self._authorization is not None:
            said["Authorization"] = self._authorization.header(method, url)
        return await self._connection.send(method, url, said)


def _check(reply: Reply) -> None:
    status = reply.status
    if (
        status in LATER
        or status in _RTSP_LATER
        or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NO_METHOD)
    ):
        raise Broken(f"the server answered {status}")
    if status == HTTPStatus.UNAUTHORIZED:
        raise SourceRefused(
            "The source cannot be fetched: its server answered 401. Name credentials of the server that it accepts.",
            actual=status,
        )
    if status != HTTPStatus.OK:
        raise SourceRefused(f"The source cannot be fetched: its server answered {status}.", actual=status)


def _says_goodbye(data: bytes) -> bool:
    """Whether a compound packet of RTCP says that the source leaves (RFC 3550, 6.6)."""
    at = 0
    while at + 4 <= len(data):
        if data[at + 1] == _BYE:
            return True
        at += 4 * (int.from_bytes(data[at + 2 : at + 4], "big") + 1)
    return False
