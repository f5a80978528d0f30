"""RTP packets of small videos, as FFmpeg's packetizer makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from service.contracts.rtp_records import DESCRIPTION, PACKET, RtpVideo, record

PAYLOAD_TYPE = 96
_RTCP = range(200, 205)


def packets_of(video: Path, packet_bytes: int = 1472) -> list[bytes]:
    """The RTP packets of the video of a file whose parameter sets are in the stream."""
    found: list[bytes] = []

    class Packets:
        def write(self, data: bytes) -> int:
            found.append(bytes(data))
            return len(data)

    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        options = {"payload_type": str(PAYLOAD_TYPE), "packetsize": str(packet_bytes)}
        with av.open(Packets(), "w", format="rtp", options=options) as target:
            sent = target.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = sent
                    target.mux(packet)
    return [packet for packet in found if packet[1] not in _RTCP]


def described(codec: str = "h264", **changes: Any) -> bytes:
    """The record that says what the packets carry."""
    given = {"codec": codec, "payload_type": PAYLOAD_TYPE, **changes}
    return record(DESCRIPTION, RtpVideo.model_validate(given).model_dump_json().encode())


def records_of(video: Path, codec: str = "h264", packet_bytes: int = 1472) -> bytes:
    """A whole session."""
    packets = packets_of(video, packet_bytes)
    return described(codec) + b"".join(record(PACKET, packet) for packet in packets)
