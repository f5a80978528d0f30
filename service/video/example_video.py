"""A short video that the service makes itself, for visitors who have none at hand.

`python -m service.video.example_video` writes it to standard output.

Three painted landscapes, seen by a camera that stands still, pans, zooms and tilts, with cuts between them. It is made
anew from numbers, so that no binary lies in the repository and nothing comes from elsewhere. Runs in a process of its
own: encoding takes seconds of a core.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from service.video.landscape import landscape

Image = NDArray[np.uint8]

WIDTH, HEIGHT, FPS = 640, 360, 25
# The same bytes each time: no time of day, no random id.
BITEXACT = {"fflags": "+bitexact"}
SCENE_WIDTH, SCENE_HEIGHT = 3 * WIDTH, 3 * HEIGHT


@dataclass(frozen=True)
class Take:
    """A camera that goes from one place of a picture to another: `x`, `y` of 0 to 1, and how much of it is seen."""

    scene: int
    seconds: float
    start: tuple[float, float, float]
    end: tuple[float, float, float]


TAKES = (
    Take(0, 3.0, (0.1, 0.55, 0.5), (0.1, 0.55, 0.5)),
    Take(0, 2.0, (0.1, 0.55, 0.5), (0.95, 0.55, 0.5)),
    Take(1, 2.0, (0.4, 0.5, 0.75), (0.4, 0.5, 0.75)),
    Take(1, 2.0, (0.4, 0.5, 0.75), (0.5, 0.55, 0.4)),
    Take(2, 1.2, (0.5, 1.0, 0.45), (0.5, 1.0, 0.45)),
    Take(2, 1.8, (0.5, 1.0, 0.45), (0.5, 0.0, 0.45)),
)


def pictures() -> Iterator[av.VideoFrame]:
    """The frames, `WIDTH` by `HEIGHT`, in order."""
    scenes: dict[int, Image] = {}
    for take in TAKES:
        if take.scene not in scenes:
            scenes = {take.scene: landscape(take.scene, SCENE_WIDTH, SCENE_HEIGHT)}
        count = round(take.seconds * FPS)
        for number in range(count):
            at = number / count
            x, y, share = (a + (b - a) * at for a, b in zip(take.start, take.end, strict=True))
            yield _seen(scenes[take.scene], x, y, share)


def encoded() -> bytes:
    """The video as WebM (VP8), which every browser plays and the service takes."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm", container_options=BITEXACT) as container:
        stream = container.add_stream(
            "libvpx", rate=FPS, options={"deadline": "good", "cpu-used": "5", "crf": "12", "auto-alt-ref": "0"}
        )
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 900_000
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(pictures()):
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def _seen(scene: Image, x: float, y: float, share: float) -> av.VideoFrame:
    height, width = scene.shape[:2]
    # Even numbers, so that the chroma of the picture is not shifted against its luma.
    seen_width = round(width * share / 2) * 2
    seen_height = round(seen_width * HEIGHT / WIDTH / 2) * 2
    left, top = round(x * (width - seen_width)), round(y * (height - seen_height))
    part = np.ascontiguousarray(scene[top : top + seen_height, left : left + seen_width])
    return av.VideoFrame.from_ndarray(part, format="rgb24").reformat(WIDTH, HEIGHT, "yuv420p", interpolation="AREA")


if __name__ == "__main__":
    sys.stdout.buffer.write(encoded())
