from __future__ import annotations

import re

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
        (b"\x00\x00\x00\x20emsg" + bytes(24) + b"\x00\x00\x00\x18moof", "mp4"),
        (b"\x00\x00\x00\x10uuid" + bytes(8) + b"\x00\x00\x00\x18ftyp", "mp4"),
        *(
            (b"\x00\x00\x00\x10" + kind + bytes(8), "mp4")
            for kind in (b"prft", b"pdin", b"meta", b"udta", b"junk", b"PICT")
        ),
        (bytes(100) + (b"\x47" + bytes(187)) * 9, "mpegts"),
        (b"IMKH" + bytes(36) + b"\x00\x00\x01\xba\x44\x00\x04\x00\x04\x01\x00\x00\x03\xf8\x00\x00\x01\xe0", "mpeg"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "asf"),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", "mxf"),
        (b"\x00\x00\x00\x01\x67\x64\x00\x0a\x00\x00\x00\x01\x68\xeb", "h264"),
        (b"\x00\x00\x01\x09\xf0\x00\x00\x01\x67\x42\x00\x0a\x00\x00\x01\x68\xeb", "h264"),
        (b"\x00\x00\x00\x01\x40\x01\x0c\x00\x00\x01\x42\x01\x01\x00\x00\x01\x44\x01\xc1", "hevc"),
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
        (b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02", "animated WebP"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(17) + b"\x00\x00\x00\x08acTL", "APNG"),
        (b"\x00\x00\x00\x1cftypavis\x00\x00\x00\x00avis", "animated AVIF"),
        (b"\x00\x00\x00\x1cftypmsf1\x00\x00\x00\x00hevc", "animated HEIF"),
        (4 * b"\xff\xd8\xff\xe0\xff\xd9", "motion JPEG stream"),
        (b"DKIF\x00\x00", "IVF"),
        (b"\x1f\x07\x00\x3f", "DV stream"),
        (b"YUV4MPEG2 W64", "uncompressed"),
        (b"CWS\x0a", "Flash"),
        (b".RMF\x00", "RealMedia"),
        (b"nut/multimedia container\x00", "NUT"),
        (b"DHAV\xfd", "Dahua"),
        (b"\x00\x00\x01\xb0\x01\x00\x00\x01\xb5", "bare MPEG-4"),
        (b"\x00\x00\x01\xb3\x04\x00", "bare MPEG-1 or MPEG-2"),
        (b"\x00\x00\x00\x01\x41\x9a", "bare video stream"),
        (b"abcduuid, a sentence", "unrecognized format"),
        (b"\x00\x00\x01\x00\x01\x00\x10\x10", "icon"),
        (b"hello", "unrecognized format"),
        (b"G", "unrecognized format"),
    ],
)
def test_what_is_no_video_is_refused_by_its_name(head: bytes, name: str) -> None:
    with pytest.raises(ContainerNotAllowed, match=name) as caught:
        sniff(head, ALLOWED)
    assert "mp4" in str(caught.value.limit)


@pytest.mark.parametrize(
    ("head", "command"),
    [
        (b"DKIF\x00\x00", "ffmpeg -i INPUT -c copy OUTPUT.mkv"),
        (b"YUV4MPEG2 W64", "ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"),
        (b"\x00\x00\x01\xb0\x01\x00\x00\x01\xb5", "ffmpeg -f m4v -i INPUT -c:v libx264 OUTPUT.mp4"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02", "magick INPUT.webp OUTPUT.gif"),
        (b"GIF89a", "ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"),
    ],
)
def test_a_refusal_says_what_to_do(head: bytes, command: str) -> None:
    with pytest.raises(ContainerNotAllowed, match=re.escape(f"`{command}`.")):
        sniff(head, ("mp4",))


def test_a_known_family_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ContainerNotAllowed, match="gif") as caught:
        sniff(b"GIF89a", ("mp4",))
    assert (caught.value.limit, caught.value.actual) == ("mp4", "gif")


def test_no_bytes_at_all_are_an_empty_upload() -> None:
    with pytest.raises(EmptyUpload):
        sniff(b"", ALLOWED)
