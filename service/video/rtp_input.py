"""Records of an RTP session to a transport stream, so that what decodes streams knows no other kind."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from service.contracts.rtp_records import DESCRIPTION, PACKET, RECORD_HEAD, RECORD_MARK, RtpVideo
from service.errors import Undecodable
from service.video.live_input import CHUNK_BYTES, FETCH, LiveInput
from service.video.rtp_payload import Depacketizer, parse_packet
from service.video.ts_packets import TransportStream


class RtpInput:
    """Stands between a sandbox worker and its stream: `next` is what a `LiveInput` asks."""

    def __init__(self, records: LiveInput) -> None:
        self._records = records
        self._unread = bytearray()
        self._video: RtpVideo | None = None
        self._depacketizer: Depacketizer | None = None
        self._stream: TransportStream | None = None
        self._written = bytearray()
        self._ended = False

    def next(self, request: dict[str, Any]) -> tuple[bytes, bool]:
        """The next bytes of the transport stream, none at its end; and whether those that they came by were late.

        Raises Undecodable for what is no session.
        """
        while not self._written and not self._ended:
            more = self._records.read(CHUNK_BYTES)
            if not more:
                self._end()
                break
            self._unread += more
            self._read()
        size = request[FETCH]
        found = bytes(self._written[:size])
        del self._written[:size]
        return found, self._records.late

    def _read(self) -> None:
        unread, at = self._unread, 0
        while at + RECORD_HEAD.size <= len(unread):
            mark, channel, size = RECORD_HEAD.unpack_from(unread, at)
            if mark != RECORD_MARK or channel not in (DESCRIPTION, PACKET):
                raise Undecodable("The packets of the stream are not framed as they have to be.")
            begin, end = at + RECORD_HEAD.size, at + RECORD_HEAD.size + size
            if end > len(unread):
                break
            data, at = bytes(unread[begin:end]), end
            if channel == DESCRIPTION:
                self._describe(data)
            else:
                self._take(data)
        del unread[:at]

    def _describe(self, data: bytes) -> None:
        self._flush()
        try:
            video = RtpVideo.model_validate_json(data)
        except ValidationError as error:
            raise Undecodable("The description of the stream cannot be read.") from error
        if self._video is not None and video.codec != self._video.codec:
            raise Undecodable(
                f"The stream began as {self._video.codec} and goes on as {video.codec}. Begin another.",
                limit=self._video.codec,
                actual=video.codec,
            )
        if video.codec != "mpegts":
            self._depacketizer = Depacketizer(video)
            self._stream = self._stream or TransportStream(video.codec)
        self._video = video

    def _take(self, data: bytes) -> None:
        if self._video is None:
            raise Undecodable("The stream begins with a packet instead of its description.")
        packet = parse_packet(data, self._video.payload_type)
        if packet is None:
            return
        if self._depacketizer is None or self._stream is None:
            self._written += packet.payload
            return
        for unit in self._depacketizer.units(packet):
            self._written += self._stream.write(unit)

    def _flush(self) -> None:
        if self._depacketizer is not None and self._stream is not None:
            for unit in self._depacketizer.end():
                self._written += self._stream.write(unit)

    def _end(self) -> None:
        self._ended = True
        self._flush()
