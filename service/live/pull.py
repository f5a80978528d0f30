"""Fetches the streams that have a source while their session lasts: HLS, an answer without end, RTSP or SRT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

import httpcore

from service.contracts.stream_requests import StreamSource
from service.errors import SourceNotAllowed, SourceRefused, SourceUnavailable, VidtrError, sentence
from service.sources.addresses import ForbiddenTarget, PinnedBackend
from service.sources.config import SourceConfig
from service.sources.hls_playlist import MARK, MAX_BYTES, MasterPlaylist, MediaPlaylist, Segment, parse
from service.sources.live_fetch import Answer, LiveClient
from service.sources.ranges import Broken
from service.sources.rtsp_client import RtspClient
from service.sources.srt_client import SRT, SrtClient
from service.sources.stream_logins import StreamLogins

BROKEN = (Broken, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
# As players do, reading begins so many segments before the newest.
_BEHIND = 3
_SEGMENT_TRIES = 3
_TS_SYNC = b"\x47"


class Pulled(Protocol):
    """What takes the bytes: a session."""

    async def put(self, piece: bytes) -> None:
        """Take the next bytes, once there is room."""

    def finish(self) -> None:
        """The stream has ended."""

    def fail(self, error: VidtrError) -> None:
        """The stream cannot be had."""

    async def note(self, state: str, **more: object) -> None:
        """Tell how the stream stands."""

    @property
    def segment(self) -> int:
        """The last segment of HLS that came whole; 0 before the first."""

    @segment.setter
    def segment(self, number: int) -> None: ...


class _Again(Exception):
    """The stream broke off, and may go on."""


class Pull:
    """Fetches sources. What breaks is tried again, until nothing has come for `reconnect_s`."""

    def __init__(
        self,
        config: SourceConfig,
        backend: PinnedBackend,
        logins: StreamLogins,
        *,
        idle_s: float,
        reconnect_s: float,
    ) -> None:
        """A server that says nothing for `idle_s` counts as broken. `logins` are those that a caller may name."""
        self._config = config
        self._client = LiveClient(config, backend, idle_s)
        self._rtsp = RtspClient(config, backend, logins, idle_s)
        self._srt = SrtClient(config, backend, logins, idle_s)
        self._reconnect_s = reconnect_s

    async def run(self, source: StreamSource, session: Pulled) -> None:
        """Bring the bytes of a source to a session, until the stream ends or this is cancelled."""
        clock = asyncio.get_running_loop().time
        pause_s, last_at = _FIRST_PAUSE_S, clock()
        while True:
            reading = _Reading(self._client, self._config, session)
            try:
                if source.packets:
                    await reading.play(self._rtsp, source)
                elif source.scheme in SRT:
                    await reading.play_without_end(self._srt, source)
                else:
                    await reading.read(source.url)
                session.finish()
                return
            except ForbiddenTarget as error:
                session.fail(SourceNotAllowed(f"The source cannot be fetched: {error}."))
                return
            except VidtrError as error:
                session.fail(error)
                return
            except (*BROKEN, _Again) as error:
                if reading.came:
                    pause_s, last_at = _FIRST_PAUSE_S, clock()
                why = str(error) or type(error).__name__
                if clock() - last_at + pause_s > self._reconnect_s:
                    detail = f"Nothing came of the source for {self._reconnect_s:g} s: {sentence(why)}"
                    session.fail(SourceUnavailable(detail, limit=self._reconnect_s))
                    return
                await session.note("reconnecting", detail=why, in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Reading:
    """One try to read a source.

    Attributes:
        came: whether any of it came.
    """

    def __init__(self, client: LiveClient, config: SourceConfig, session: Pulled) -> None:
        self._client = client
        self._config = config
        self._session = session
        self.came = False

    async def read(self, url: str) -> None:
        """Until the stream ends. Raises _Again where it breaks off, and what the client raises."""
        head, rest = b"", b""
        async with self._client.get(url) as answer:
            pieces = answer.body
            async for piece in pieces:
                head += piece
                if len(head) >= len(MARK):
                    break
            if not head.removeprefix(b"\xef\xbb\xbf").startswith(MARK):
                await self._plain(answer, head, pieces)
                return
            async for piece in pieces:
                rest += piece
                if len(head) + len(rest) > MAX_BYTES:
                    raise SourceRefused(f"The playlist has more than {MAX_BYTES} bytes.", limit=MAX_BYTES)
        await self._hls(answer.url, head + rest)

    async def play(self, client: RtspClient, source: StreamSource) -> None:
        """Until the stream ends. Raises what the client raises."""
        async with aclosing(client.play(source.url, source.credentials)) as pieces:
            # A description alone is nothing that came of the stream.
            await self._session.put(await anext(pieces))
            async for piece in pieces:
                await self._put(piece)

    async def play_without_end(self, client: SrtClient, source: StreamSource) -> None:
        """Until this is cancelled. Raises what the client raises."""
        async with aclosing(client.play(source.url, source.credentials)) as pieces:
            async for piece in pieces:
                await self._put(piece)

    async def _plain(self, answer: Answer, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        await self._put(head)
        async for piece in pieces:
            await self._put(piece)
        # A header would come a second time; only of a transport stream nothing but the lost bytes is missing.
        if not answer.complete and head.startswith(_TS_SYNC):
            raise _Again("the connection ended")

    async def _hls(self, url: str, data: bytes) -> None:
        playlist = parse(data.decode("utf-8", "replace"), url)
        if isinstance(playlist, MasterPlaylist):
            url, data = await self._client.read(playlist.url, MAX_BYTES, "The playlist")
            playlist = parse(data.decode("utf-8", "replace"), url)
            if isinstance(playlist, MasterPlaylist):
                raise SourceRefused("The playlist of HLS names another that names others; one level is read.")
        session, init_url = self._session, ""
        while True:
            for segment in await self._due(playlist):
                if segment.init_url is not None and segment.init_url != init_url:
                    if init_url:
                        raise SourceRefused("The stream changes its header (EXT-X-MAP), which is not supported.")
                    init_url = segment.init_url
                    await self._put(await self._segment_bytes(init_url))
                try:
                    await self._put(await self._segment_bytes(segment.url))
                except _Again as error:
                    await session.note("skipped", segments=1, detail=str(error))
                session.segment = segment.number + 1
            if playlist.ended:
                return
            await asyncio.sleep(playlist.target_s / 2)
            url, data = await self._client.read(url, MAX_BYTES, "The playlist")
            again = parse(data.decode("utf-8", "replace"), url)
            if isinstance(again, MasterPlaylist):
                raise SourceRefused("The playlist of HLS became another kind.")
            playlist = again

    async def _due(self, playlist: MediaPlaylist) -> tuple[Segment, ...]:
        """The segments that come next. Those that are gone by now are told of."""
        known, segments = self._session.segment, playlist.segments
        if not segments:
            return ()
        if not known or segments[-1].number + 1 < known - len(segments):
            # At the beginning, or where the server has begun to count anew.
            return segments if playlist.ended else segments[-_BEHIND:]
        if segments[0].number > known:
            await self._session.note("skipped", segments=segments[0].number - known)
        return tuple(segment for segment in segments if segment.number >= known)

    async def _segment_bytes(self, url: str) -> bytes:
        """A segment. Raises _Again where it is gone, or does not come in a few tries."""
        for left in reversed(range(_SEGMENT_TRIES)):
            try:
                _, data = await self._client.read(url, self._config.source_max_bytes, "A segment of the stream")
                return data
            except BROKEN:
                if not left:
                    raise
                await asyncio.sleep(_FIRST_PAUSE_S)
            except SourceRefused as error:
                raise _Again(error.detail) from error
        raise AssertionError

    async def _put(self, piece: bytes) -> None:
        self.came = self.came or bool(piece)
        await self._session.put(piece)
