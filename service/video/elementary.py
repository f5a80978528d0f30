"""Recognize bare streams of H.264 and HEVC by the units that they begin with (Annex B of ITU-T H.264 and H.265)."""

from __future__ import annotations

from collections.abc import Iterator

_START = b"\0\0\1"
_MOST_UNITS = 4096
# A bit that is zero in every header.
_FORBIDDEN = 0x80
# Slices, their partitions, supplemental information, sets of parameters and a delimiter (Table 7-1).
_H264_KINDS = range(1, 10)
_H264_SPS, _H264_PPS = 7, 8
_H264_PROFILES = {bytes([profile]) for profile in (44, 66, 77, 83, 86, 88, 100, 110, 118, 122, 128, 138, 144, 244)}
_HEVC_SPS, _HEVC_PPS = 33, 34


def units(data: bytes) -> Iterator[bytes]:
    """The units of a byte stream, each from its header on; nothing where it does not begin with a start code."""
    if not data.lstrip(b"\0").startswith(b"\1") or not data.startswith(b"\0\0"):
        return
    for number, unit in enumerate(data.split(_START, _MOST_UNITS)[1:]):
        if number < _MOST_UNITS - 1 and unit:
            yield unit


def is_h264(head: bytes) -> bool:
    """Whether the first bytes are units of H.264, and among them those that set up a decoder."""
    kinds = set()
    for unit in units(head):
        kind = unit[0] & 0x1F
        if unit[0] & _FORBIDDEN or kind not in _H264_KINDS:
            return False
        if kind == _H264_SPS and unit[1:2] not in _H264_PROFILES:
            return False
        kinds.add(kind)
        if {_H264_SPS, _H264_PPS} <= kinds:
            return True
    return False


def is_hevc(head: bytes) -> bool:
    """Whether the first bytes are units of HEVC, and among them those that set up a decoder."""
    kinds = set()
    for unit in units(head):
        # Of the base layer, which is all that is decoded.
        if len(unit) < 2 or unit[0] & (_FORBIDDEN | 1) or unit[1] >> 3 or not unit[1] & 7:
            return False
        kinds.add(unit[0] >> 1)
        if {_HEVC_SPS, _HEVC_PPS} <= kinds:
            return True
    return False
