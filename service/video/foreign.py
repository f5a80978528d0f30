"""Names of what is no accepted container, and what to do with it."""

from __future__ import annotations

from service.video.advice import CONVERT, REWRAP

UNRECOGNIZED = "an unrecognized format"

_SEND_VIDEO = "Send a video file"
_UNPACK = "Unpack it and send the video in it"
_REFERENCE = "It names other files, which are never opened: send the video itself"
_PICTURE = "A still picture has no motion: send a video"
_NO_TOOL = "FFmpeg does not read it; convert it with ImageMagick: `magick INPUT.webp OUTPUT.gif`"
_ANIMATION = "Convert it: `ffmpeg -i INPUT -pix_fmt yuv420p OUTPUT.mp4`"
# So many pictures one directly after the other make a motion JPEG; cameras put a few into one photograph.
_MOTION_PICTURES = 4
# FFmpeg tells these by their names, which an upload has not.
_RAW_VISUAL = "Convert it: `ffmpeg -f m4v -i INPUT -c:v libx264 OUTPUT.mp4`"

_BY_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89PNG\r\n", "a PNG picture", _PICTURE),
    (0, b"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    (8, b"WEBP", "a WebP picture", _PICTURE),
    (0, b"BM", "a BMP picture", _PICTURE),
    (0, b"II*\x00", "a TIFF picture", _PICTURE),
    (0, b"MM\x00*", "a TIFF picture", _PICTURE),
    (4, b"ftyp", "a HEIF or AVIF picture", _PICTURE),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _PICTURE),
    (8, b"WAVE", "a WAV audio file", _SEND_VIDEO),
    (0, b"ID3", "an MP3 audio file (ID3 tag)", _SEND_VIDEO),
    (0, b"fLaC", "a FLAC audio file", _SEND_VIDEO),
    (0, b"\xff\xf1", "an AAC audio file", _SEND_VIDEO),
    (0, b"\xff\xf9", "an AAC audio file", _SEND_VIDEO),
    (0, b"\xff\xfb", "an MP3 audio file", _SEND_VIDEO),
    (0, b"\xff\xfa", "an MP3 audio file", _SEND_VIDEO),
    (0, b"\xff\xf3", "an MP3 audio file", _SEND_VIDEO),
    (0, b"\xff\xf2", "an MP3 audio file", _SEND_VIDEO),
    (0, b"#!AMR", "an AMR audio file", _SEND_VIDEO),
    (0, b"MThd", "a MIDI file", _SEND_VIDEO),
    (0, b"OggS", "an Ogg file", CONVERT),
    (0, b".RMF", "a RealMedia file", CONVERT),
    (0, b"DKIF", "an IVF file", REWRAP),
    (0, b"YUV4MPEG2", "a YUV4MPEG2 file of uncompressed video", CONVERT),
    (0, b"nut/multimedia container", "a NUT file", REWRAP),
    (0, b"FWS", "a Flash animation (SWF)", CONVERT),
    (0, b"CWS", "a Flash animation (SWF)", CONVERT),
    (0, b"ZWS", "a Flash animation (SWF)", CONVERT),
    (0, b"DHAV", "a DAV recording of a Dahua camera", CONVERT),
    (0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11", "a WTV recording", CONVERT),
    (0, b"\x06\x0e\x2b\x34", "an MXF file", CONVERT),
    (0, b"\x30\x26\xb2\x75", "an ASF or WMV file", CONVERT),
    (0, b"\x1f\x07\x00", "a bare DV stream", CONVERT),
    (0, b"\x12\x00\x0a", "a bare AV1 stream without container", REWRAP),
    (0, b"\x00\x00\x01\xb3", "a bare MPEG-1 or MPEG-2 video stream without container", CONVERT),
    (0, b"\x00\x00\x01\xb0", "a bare MPEG-4 video stream without container", _RAW_VISUAL),
    (0, b"\x00\x00\x01\xb5", "a bare MPEG-4 video stream without container", _RAW_VISUAL),
    (0, b"\x00\x00\x01\x00\x00\x00\x01", "a bare MPEG-4 video stream without container", _RAW_VISUAL),
    (0, b"\x00\x00\x01\x00", "an icon", _PICTURE),
    (
        0,
        b"\x00\x00\x01\x0f",
        "a bare VC-1 stream without container",
        "Convert it: `ffmpeg -f vc1 -i INPUT OUTPUT.mp4`",
    ),
    (0, b"\x00\x00\x00\x01", "a bare video stream without container", CONVERT),
    (0, b"\x00\x00\x01", "a bare video stream without container", CONVERT),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"%PDF", "a PDF document", _SEND_VIDEO),
    (0, b"\x7fELF", "a program", _SEND_VIDEO),
    (0, b"MZ", "a program", _SEND_VIDEO),
)

_BY_TEXT: tuple[tuple[bytes, str, str], ...] = (
    (b"#extm3u", "an HLS playlist", _REFERENCE),
    (b"ffconcat", "an ffconcat list of other files", _REFERENCE),
    (b"[playlist]", "a PLS playlist", _REFERENCE),
    (b"[reference]", "an ASX playlist", _REFERENCE),
    (
        b"<!doctype html",
        "an HTML page",
        "The address may need a login: open it in a browser, and send the video itself",
    ),
    (b"<html", "an HTML page", "The address may need a login: open it in a browser, and send the video itself"),
    (b"<mpd", "a DASH manifest", _REFERENCE),
    (b"<smil", "a SMIL playlist", _REFERENCE),
    (b"<asx", "an ASX playlist", _REFERENCE),
    (b"<svg", "an SVG picture", _PICTURE),
    (b"<?xml", "an XML document", _REFERENCE),
    (b"v=0", "an SDP session description", _REFERENCE),
    (b"{", "a JSON document", _SEND_VIDEO),
)


def describe(head: bytes) -> tuple[str, str]:
    """What the first bytes of an upload are, with an article, and what to do about it, without a full stop."""
    if moving := _animation(head):
        return moving
    for offset, magic, name, advice in _BY_MAGIC:
        if head[offset:].startswith(magic):
            return name, advice
    text = head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for opening, name, advice in _BY_TEXT:
        if text.startswith(opening):
            return name, advice
    return UNRECOGNIZED, CONVERT


def _animation(head: bytes) -> tuple[str, str] | None:
    """What moves in a format of pictures."""
    if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return "an animated WebP", _NO_TOOL
    if head.startswith(b"\x89PNG") and b"acTL" in head[: head.find(b"IDAT") % (1 << 32)]:
        return "an animated PNG (APNG)", _ANIMATION
    if head[4:8] == b"ftyp":
        brands = head[8 : int.from_bytes(head[:4], "big")]
        if b"avis" in brands:
            return "an animated AVIF", _ANIMATION
        if b"msf1" in brands or b"hevc" in brands:
            return "an animated HEIF (image sequence)", _ANIMATION
    if head.startswith(b"\xff\xd8\xff") and head.count(b"\xff\xd9\xff\xd8\xff") + 1 >= _MOTION_PICTURES:
        return "a motion JPEG stream without container", "Convert it: `ffmpeg -f mjpeg -i INPUT OUTPUT.mp4`"
    return None
