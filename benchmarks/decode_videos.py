"""The videos of the decode benchmarks: a camera that pans over a textured picture, with sensor noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

# (width, height), seconds, group length, how often the encoded part is repeated by copying its packets.
KINDS: dict[str, tuple[tuple[int, int], int, int, int]] = {
    "10 s 340p, groups of 12": ((340, 256), 10, 12, 1),
    "10 s 1080p, groups of 250": ((1920, 1080), 10, 250, 1),
    "10 min 720p": ((1280, 720), 60, 250, 10),
    "2 h 480p": ((854, 480), 60, 250, 120),
}
# What many uploads at once are measured with; too slow to write for every run.
LARGE = "10 s 4K, groups of 60"
_WRITABLE = {**KINDS, LARGE: ((3840, 2160), 2, 60, 5)}
FPS = 30


def _scene(width: int, height: int) -> NDArray[np.uint8]:
    dice = np.random.default_rng(0)
    scene = np.zeros((2 * height, 2 * width, 3))
    for cell in (4, 16, 64):
        coarse = dice.integers(0, 256, (2 * height // cell + 2, 2 * width // cell + 2, 3))
        scene += np.repeat(np.repeat(coarse, cell, 0), cell, 1)[: 2 * height, : 2 * width]
    return (scene / 3).astype(np.uint8)


def encode(path: Path, kind: str, b_frames: bool) -> None:
    """Write one video with x264's defaults, or without B-frames."""
    (width, height), seconds, gop, repeats = _WRITABLE[kind]
    scene = _scene(width, height)
    noise = np.random.default_rng(1).integers(0, 6, (height + 64, width + 64, 1), dtype=np.uint8)
    once = path if repeats == 1 else path.with_suffix(".once.mp4")
    with av.open(str(once), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={} if b_frames else {"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = gop
        for number in range(seconds * FPS):
            x = int((1 + math.sin(number / 40)) * width / 2)
            y = int((1 + math.cos(number / 55)) * height / 2)
            grain = noise[number * 7 % 64 :, number * 13 % 64 :][:height, :width]
            picture = scene[y : y + height, x : x + width] // 2 + grain
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    if repeats > 1:
        _repeat(once, path, repeats)
        once.unlink()


def _repeat(source: Path, target: Path, times: int) -> None:
    with av.open(str(target), "w") as taken:
        copy, offset = None, 0
        for _ in range(times):
            with av.open(str(source)) as given:
                stream = given.streams.video[0]
                copy = copy or taken.add_stream_from_template(stream)
                for packet in given.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = copy
                    taken.mux(packet)
                offset += stream.duration or 0


def video(folder: Path, kind: str, b_frames: bool) -> Path:
    """The video of that kind in `folder`, written if it is not there."""
    name = kind.replace(",", "").replace(" ", "-")
    path = folder / f"{name}{'' if b_frames else '-no-b'}.mp4"
    if not path.exists():
        partial = path.with_suffix(".partial.mp4")
        encode(partial, kind, b_frames)
        partial.rename(path)
    return path
