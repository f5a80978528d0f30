from __future__ import annotations

import pytest

from service.errors import ContainerNotAllowed, EmptyUpload
from service.video.sniff import sniff
from tests.unit.video.common import LIMITS

ALLOWED = LIMITS.allowed_containers


@pytest.mark.parametrize(
    ("head", "family"),
    [
        (b"\x00\x00\x00\x20ftypisom", "mp4"),
        (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", "mp4"),
        (b"\x1a\x45\xdf\xa3\x01\x00", "matroska"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "avi"),
        ((b"\x47" + bytes(187)) * 3, "mpegts"),
        ((b"\x00\x00\x00\x01\x47" + bytes(187)) * 3, "mpegts"),
        (b"\x00\x00\x01\xba\x44", "mpeg"),
        (b"FLV\x01\x05", "flv"),
        (b"GIF89a", "gif"),
    ],
)
def test_each_container_family_is_recognized_by_its_first_bytes(head: bytes, family: str) -> None:
    assert sniff(head, ALLOWED).name == family


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "HLS playlist"),
        (b"\xef\xbb\xbf\n #extm3u\n", "HLS playlist"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "ffconcat"),
        (b'<?xml version="1.0"?><MPD/>', "XML"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X", "WebP"),
        (b"\x00\x00\x00\x20ftypavif", "AVIF"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "WAV"),
        (b"ID3\x04\x00", "MP3"),
        (b"\xff\xfb\x90", "MP3"),
        (b"fLaC", "FLAC"),
        (b"OggS", "Ogg"),
        (b"PK\x03\x04", "zip"),
        (b"hello", "unrecognized format"),
        (b"G", "unrecognized format"),
    ],
)
def test_what_is_no_video_is_refused_by_its_name(head: bytes, name: str) -> None:
    with pytest.raises(ContainerNotAllowed, match=name) as caught:
        sniff(head, ALLOWED)
    assert "mp4" in str(caught.value.limit)


def test_a_known_family_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ContainerNotAllowed, match="gif") as caught:
        sniff(b"GIF89a", ("mp4",))
    assert (caught.value.limit, caught.value.actual) == ("mp4", "gif")


def test_no_bytes_at_all_are_an_empty_upload() -> None:
    with pytest.raises(EmptyUpload):
        sniff(b"", ALLOWED)
