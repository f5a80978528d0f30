"""Small real videos for tests. Each frame shows its own number as a pattern of blocks that survives compression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

GRID = 4  # blocks along each side: 16 bits, enough for 65536 frames
PIXEL_FORMATS = {
    "gif": "rgb8",
    "mjpeg": "yuvj420p",
    "prores": "yuv422p10le",
    "cinepak": "rgb24",
    "dnxhd": "yuv422p",
    "huffyuv": "yuv422p",
}
_WITHOUT_GROUPS = ("gif", "cinepak", "dnxhd", "huffyuv")
_BY_BIT_RATE = ("mpeg4", "mpeg2video", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "flv")


def numbered(number: int, width: int = 64, height: int = 64) -> Image:
    """A `[height, width, 3]` picture of `number`: bit b is the brightness of block b, row by row."""
    bits = np.array([(number >> bit) & 1 for bit in range(GRID * GRID)], dtype=np.uint8).reshape(GRID, GRID)
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    gray = 30 + 190 * bits[rows][:, columns]
    return np.repeat(gray[:, :, None], 3, axis=2)


def number_of(image: Image) -> int:
    """The number that a picture of `numbered` shows, at whatever size and quality."""
    height, width = image.shape[:2]
    number = 0
    for bit in range(GRID * GRID):
        y, x = (2 * (bit // GRID) + 1) * height // (2 * GRID), (2 * (bit % GRID) + 1) * width // (2 * GRID)
        center = image[max(0, y - 2) : y + 2, max(0, x - 2) : x + 2]
        number |= int(center.mean() > 125) << bit
    return number


def quadrants(number: int, width: int = 64, height: int = 64) -> Image:
    """A picture whose quarters are red, green (right), blue (below) and white; `number` changes their brightness."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    level = 255 - 8 * (number % 8)
    y, x = height // 2, width // 2
    image[:y, :x, 0] = image[:y, x:, 1] = image[y:, :x, 2] = level
    image[y:, x:] = level
    return image


def quadrant_colors(image: Image) -> str:
    """Letters of the quarters' colors, row by row: `RGBW` for an unturned `quadrants`."""
    height, width = image.shape[:2]
    letters = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            bright = image[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1)) > 110
            letters += {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}.get(
                tuple(bright.astype(int)), "?"
            )
    return letters


def write_video(
    path: Path,
    frames: int = 60,
    *,
    fps: Fraction | int = 30,
    times: Sequence[Fraction] | None = None,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 64),
    gop: int = 12,
    b_frames: int = 2,
    draw: Callable[[int, int, int], Image] = numbered,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    turn: tuple[int, bool, bool] | None = None,
    pixel_aspect: Fraction | None = None,
    audio: bool = False,
) -> Path:
    """Write `frames` pictures to `path`; the suffix chooses the container.

    Args:
        path: where to write.
        frames: how many pictures; frame i shows `draw(i, width, height)`.
        fps: their rate.
        times: presentation time in seconds of each, in place of a fixed rate; multiples of 1/1000 s.
        codec: name of FFmpeg's encoder.
        size: (width, height) in pixels.
        gop: largest distance of keyframes.
        b_frames: bidirectional frames between others.
        draw: makes the pictures.
        container_format: FFmpeg's name of the container, where the suffix says too little.
        container_options: options of the muxer.
        codec_options: options of the encoder.
        turn: (degrees counter-clockwise, mirror horizontally, mirror vertically) for the display matrix.
        pixel_aspect: width of a pixel over its height.
        audio: whether a silent sound track is added.
    """
    base = Fraction(1, 1000) if times else 1 / Fraction(fps)
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        video: Any = container.add_stream(codec, rate=Fraction(fps), options=dict(codec_options or {}))
        video.width, video.height = size
        video.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
        video.codec_context.time_base = base
        if codec not in _WITHOUT_GROUPS:
            video.codec_context.gop_size = gop
        if codec != "gif":
            video.codec_context.thread_count = 1
        if codec in ("libx264", "mpeg4", "mpeg2video"):
            video.codec_context.max_b_frames = b_frames
        if codec in _BY_BIT_RATE:
            video.codec_context.bit_rate = 2_000_000
        if pixel_aspect:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        if turn:
            video.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        sound: Any = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")
            picture.pts = int(times[number] / base) if times else number
            picture.time_base = base
            container.mux(video.encode(picture))
        container.mux(video.encode())
        if sound:
            _mux_silence(container, sound, seconds=frames / float(fps))
    return path


def write_audio(path: Path, seconds: float = 1.0) -> Path:
    """Write silence, and no video, to `path`."""
    with av.open(str(path), "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def _mux_silence(container: Any, sound: Any, seconds: float) -> None:
    for start in range(0, int(seconds * 16000), 1024):
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = 16000, start, Fraction(1, 16000)
        container.mux(sound.encode(block))
    container.mux(sound.encode())


def remux(
    source: Path, target: Path, offset_s: float = 0.0, drop: frozenset[int] = frozenset(), *, opaque: bool = False
) -> Path:
    """Copy the video packets of `source` to another container, `offset_s` later, without the packets in `drop`.

    `opaque` is for codecs without an encoder; which packets are keyframes is then what the container says.
    """
    flags = {"fflags": "noparse"} if opaque else {}
    with av.open(str(source), container_options=flags) as given, av.open(str(target), "w") as taken:
        stream = given.streams.video[0]
        copy = taken.add_stream_from_template(stream, opaque=opaque or None)
        for number, packet in enumerate(given.demux(stream)):
            if packet.dts is None or number in drop:
                continue
            offset = round(offset_s / packet.time_base)
            pts = packet.dts if packet.pts is None else packet.pts
            packet.pts, packet.dts = pts + offset, packet.dts + offset
            packet.stream = copy
            taken.mux(packet)
    return target


def repeated(source: Path, target: Path, copies: int) -> Path:
    """Copy the video packets of `source` over and over, one copy after the other: a film in seconds."""
    with av.open(str(source)) as given, av.open(str(target), "w") as taken:
        stream: Any = given.streams.video[0]
        copy: Any = taken.add_stream_from_template(stream)
        packets: list[Any] = [
            (packet, packet.pts, packet.dts) for packet in given.demux(stream) if packet.dts is not None
        ]
        length = round(Fraction(len(packets)) / stream.average_rate / stream.time_base)
        for number in range(copies):
            for packet, pts, dts in packets:
                packet.pts, packet.dts, packet.stream = pts + number * length, dts + number * length, copy
                packet.time_base = stream.time_base
                taken.mux(packet)
    return target


def truncated(source: Path, target: Path, share: float) -> Path:
    """Copy the first `share` of the bytes."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target
