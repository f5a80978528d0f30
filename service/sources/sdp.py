"""Descriptions of sessions (SDP, RFC 8866) as cameras give them: the first video, and nothing else."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from service.contracts.rtp_records import RTP_CLOCK_HZ, RtpVideo
from service.errors import SourceRefused

MOST_SET_BYTES = 1 << 12
"""the largest parameter set that is passed on"""
_MOST_SETS = 16
_MEDIA = re.compile(r"video [0-9]{1,5}(?:/[0-9]{1,5})? (\S+) (.+)")
_MAP = re.compile(r"rtpmap:([0-9]{1,3}) ([A-Za-z0-9.-]{1,40})/([0-9]{1,9})(?:/.*)?")
_CODECS = {"H264": "h264", "H265": "hevc", "MP2T": "mpegts"}
# What needs no line that names it (RFC 3551).
_STATIC = {26: ("JPEG", RTP_CLOCK_HZ), 32: ("MPV", RTP_CLOCK_HZ), 33: ("MP2T", RTP_CLOCK_HZ)}
_SETS = {"h264": ("sprop-parameter-sets",), "hevc": ("sprop-vps", "sprop-sps", "sprop-pps")}


@dataclass(frozen=True)
class Described:
    """The video of a session, and what is asked for to get it, as far as that is said."""

    video: RtpVideo
    control: str


@dataclass
class _Media:
    protocol: str
    formats: list[str]
    control: str = ""
    names: dict[int, tuple[str, int]] = field(default_factory=dict)
    parameters: dict[int, str] = field(default_factory=dict)


def first_video(text: str) -> Described:
    """The first video of a description. Raises SourceRefused where there is none that can be read."""
    media = _first_media(text)
    if media is None:
        raise SourceRefused("The source describes no video.")
    if media.protocol not in ("RTP/AVP", "RTP/AVPF", "RTP/AVP/TCP"):
        raise SourceRefused(
            f"The video of the source comes as {media.protocol[:40]}; RTP/AVP is supported.", actual=media.protocol[:40]
        )
    types = [int(one) for one in media.formats if re.fullmatch(r"[0-9]{1,3}", one) and int(one) < 128]
    named = {one: media.names.get(one, _STATIC.get(one, ("", 0))) for one in types}
    for payload_type, (name, clock) in named.items():
        codec = _CODECS.get(name.upper())
        if codec is None or clock != RTP_CLOCK_HZ:
            continue
        parameters = _parameters(media.parameters.get(payload_type, ""))
        if _interleaved(parameters):
            raise SourceRefused("The units of the video come out of order (interleaved), which is not supported.")
        video = {"codec": codec, "payload_type": payload_type, "parameter_sets": _sets(codec, parameters)}
        return Described(RtpVideo.model_validate(video), media.control)
    offered = ", ".join(name for name, _ in named.values() if name)[:80] or "no format"
    raise SourceRefused(
        f"The video of the source is {offered}; H264, H265 and MP2T with a clock of {RTP_CLOCK_HZ} Hz are supported.",
        actual=offered,
    )


def _first_media(text: str) -> _Media | None:
    media: _Media | None = None
    for line in text.splitlines():
        kind, _, value = line.strip().partition("=")
        if kind == "m":
            if media is not None:
                break
            if found := _MEDIA.fullmatch(value):
                media = _Media(found[1], found[2].split())
        elif kind == "a" and media is not None:
            if value.startswith("control:"):
                media.control = value.removeprefix("control:").strip()
            elif found := _MAP.fullmatch(value):
                media.names[int(found[1])] = found[2], int(found[3])
            elif value.startswith("fmtp:"):
                number, _, said = value.removeprefix("fmtp:").partition(" ")
                if re.fullmatch(r"[0-9]{1,3}", number):
                    media.parameters[int(number)] = said
    return media


def _parameters(said: str) -> dict[str, str]:
    pairs = (one.partition("=") for one in said.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _interleaved(parameters: dict[str, str]) -> bool:
    late = parameters.get("sprop-max-don-diff", "0"), parameters.get("packetization-mode", "0")
    return late[0] != "0" or late[1] == "2"


def _sets(codec: str, parameters: dict[str, str]) -> tuple[str, ...]:
    """Parameter sets in base64, those left out that are none: they may come in the packets too."""
    found = []
    for name in _SETS.get(codec, ()):
        for text in parameters.get(name, "").split(","):
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if 0 < len(data) <= MOST_SET_BYTES:
                found.append(text)
    return tuple(found[:_MOST_SETS])
