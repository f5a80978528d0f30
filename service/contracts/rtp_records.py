"""How the packets of an RTP session go from the process that fetches them to the one that reads them.

Each record is framed as RTSP interleaves packets (RFC 2326, 10.12): a dollar sign, a channel, two bytes of length. The
first says what the packets carry; it comes again where the session begins anew.
"""

from __future__ import annotations

import struct
from typing import Literal

from pydantic import Base64Bytes, Field

from service.wire_model import WireModel

RTP_CLOCK_HZ = 90_000
"""ticks of a second in timestamps of video"""
DESCRIPTION, PACKET = 0, 1
"""channels: an `RtpVideo` as JSON, and a packet of RTP"""
MOST_RECORD_BYTES = (1 << 16) - 1
RECORD_HEAD = struct.Struct("!cBH")
RECORD_MARK = b"$"


class RtpVideo(WireModel):
    """The video of an RTP session.

    Attributes:
        codec: as FFmpeg names it; `mpegts` for packets of a transport stream (RFC 2250).
        payload_type: of the packets that carry it.
        parameter_sets: NAL units without a start code that the packets may lack.
    """

    codec: Literal["h264", "hevc", "mpegts"]
    payload_type: int = Field(ge=0, le=127)
    parameter_sets: tuple[Base64Bytes, ...] = ()


def record(channel: int, data: bytes) -> bytes:
    """`data`, at most `MOST_RECORD_BYTES`, as a record."""
    return RECORD_HEAD.pack(RECORD_MARK, channel, len(data)) + data
