"""Of a camera's description the first video is read, and what cannot be played is refused."""

from __future__ import annotations

import base64

import pytest

from service.errors import SourceRefused
from service.sources.sdp import MOST_SET_BYTES, first_video

HEAD = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=Session\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:rtsp://10.0.0.1/\r\n"
SOUND = "m=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\n"
H264 = (
    "m=video 0 RTP/AVP 96\r\nb=AS:5000\r\na=control:trackID=0\r\na=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 packetization-mode=1; profile-level-id=4D001F; sprop-parameter-sets=Z00AHw==,aO48gA==;\r\n"
)
H265 = (
    "m=video 0 RTP/AVP 98\n a=x\na=rtpmap:98 h265/90000\n"
    "a=fmtp:98 sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=,!!,RAI=;sprop-max-don-diff=0\n"
)


def test_the_first_video_counts_and_sound_does_not() -> None:
    found = first_video(HEAD + SOUND + H264 + SOUND + H265)
    assert (found.video.codec, found.video.payload_type, found.control) == ("h264", 96, "trackID=0")
    assert found.video.parameter_sets == (b"\x67\x4d\x00\x1f", b"\x68\xee\x3c\x80")


def test_parameter_sets_of_hevc_come_in_their_order_and_what_is_none_is_left_out() -> None:
    found = first_video(HEAD + H265)
    assert (found.video.codec, found.control) == ("hevc", "")
    assert found.video.parameter_sets == (b"\x40\x01", b"\x42\x01", b"\x44\x01", b"\x44\x02")


def test_of_several_formats_the_first_that_can_be_read_is_taken() -> None:
    text = "m=video 5000/2 RTP/AVPF 26 97 96\na=rtpmap:97 VP8/90000\na=rtpmap:96 H264/90000\n"
    assert first_video(text).video.payload_type == 96


def test_a_transport_stream_needs_no_name() -> None:
    assert first_video("m=video 0 RTP/AVP 33\n").video.codec == "mpegts"


def test_parameter_sets_are_bounded() -> None:
    large = base64.b64encode(bytes(MOST_SET_BYTES + 1)).decode()
    text = f"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets={large}{',Z0E=' * 100}\n"
    assert len(first_video(text).video.parameter_sets) == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD + SOUND,
        "\x00\xff\n=\n==\nm=\nm=video\n",
        "m=video 0 RTP/AVP\n",
        "m=video 0 RTP/SAVP 96\na=rtpmap:96 H264/90000\n",
        "m=video 0 udp 33\n",
        "m=video 0 RTP/AVP 26\n",
        "m=video 0 RTP/AVP 96\n",
        "m=video 0 RTP/AVP 999\na=rtpmap:999 H264/90000\n",
        "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/8000\n",
        "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=2\n",
        "m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-max-don-diff=3\n",
        "m=video 0 RTP/AVP ²\na=rtpmap:² H264/90000\n",
    ],
)
def test_what_cannot_be_played_is_refused(text: str) -> None:
    with pytest.raises(SourceRefused):
        first_video(text)
