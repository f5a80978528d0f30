"""What lenses, sensors, editors and encoders do to a clip. Clips are float `(B, 3, T, n, n)`, 0 to 1."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_CODECS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("libx264", "yuv420p", {"preset": "ultrafast", "threads": "1"}),
    ("libx264", "yuv420p", {"preset": "veryfast", "threads": "1"}),
    ("mpeg4", "yuv420p", {"threads": "1"}),
    ("mjpeg", "yuvj420p", {"threads": "1"}),
)


def graded(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast, brightness, gamma, color and its loss, and an exposure that drifts and flickers."""
    batch, _, frames = clips.shape[:3]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    clips = clips.clamp(1e-3, 1).pow(torch.exp(uniform(-0.5, 0.5, batch, 1, 1, 1, 1)))
    gray = clips.mean(1, keepdim=True)
    color = torch.where(uniform(0, 1, batch, 1, 1, 1, 1) < 0.12, 0.0, uniform(0.5, 1.2, batch, 1, 1, 1, 1))
    clips = gray + (clips - gray) * color
    contrast = uniform(0.45, 1.2, batch, 1, 1, 1, 1)
    clips = 0.5 + (clips - 0.5) * contrast + uniform(-0.18, 0.18, batch, 1, 1, 1, 1)
    clips = clips * uniform(0.85, 1.15, batch, 3, 1, 1, 1)
    time = torch.linspace(-0.5, 0.5, frames)[None, None, :, None, None]
    drift = uniform(-0.2, 0.2, batch, 1, 1, 1, 1) * (uniform(0, 1, batch, 1, 1, 1, 1) < 0.4)
    flicker = 0.015 * torch.randn(batch, 1, frames, 1, 1, generator=generator)
    return clips * (1 + drift * time + flicker * (uniform(0, 1, batch, 1, 1, 1, 1) < 0.3))


def faded(clips: Tensor, light: Tensor, generator: torch.Generator) -> Tensor:
    """Mix clips with black, or sometimes white or a gray, by `light` `(B, T)`: 1 leaves the picture."""
    batch = len(clips)
    pick = torch.rand(batch, generator=generator)
    target = torch.where(pick < 0.65, 0.0, torch.where(pick < 0.9, 1.0, pick)).view(batch, 1, 1, 1, 1)
    return target + (clips - target) * light[:, None, :, None, None]


def blurred(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Soften a third of the clips by up to about one pixel."""
    batch, colors, frames, side, _ = clips.shape
    weight = 0.33 * torch.rand(batch, 1, generator=generator) * (torch.rand(batch, 1, generator=generator) < 0.35)
    flat = F.pad(clips.reshape(batch, colors * frames, side, side), [1, 1, 1, 1], mode="replicate")
    w = weight.view(batch, 1, 1, 1)
    rows = (1 - 2 * w) * flat[:, :, 1:-1] + w * (flat[:, :, :-2] + flat[:, :, 2:])
    both = (1 - 2 * w) * rows[..., 1:-1] + w * (rows[..., :-2] + rows[..., 2:])
    return both.view_as(clips)


def noisy(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Sensor noise, from none to strong, new in every frame."""
    size = 0.05 * torch.rand(len(clips), 1, 1, 1, 1, generator=generator).pow(2.5)
    return clips + size * torch.randn(clips.shape, generator=generator)


def framed(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Black bars above and below, or at the sides, of one clip in twelve."""
    batch, side = len(clips), clips.size(-1)
    width = 0.22 * torch.rand(batch, 1, generator=generator) * (torch.rand(batch, 1, generator=generator) < 1 / 12)
    line = (torch.arange(side).float() + 0.5) / side
    inside = ((line[None] >= width) & (line[None] <= 1 - width)).float()  # (B, n)
    upright = (torch.rand(batch, generator=generator) < 0.75).view(batch, 1, 1, 1, 1)
    mask = torch.where(upright, inside[:, None, None, :, None], inside[:, None, None, None, :])
    return clips * mask


def stuttering(clips: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Repeat one frame in place of the next in a twelfth of the `allowed` `(B,)` clips, as uneven frame rates do."""
    batch, _, frames = clips.shape[:3]
    order = torch.arange(frames).repeat(batch, 1)
    slot = torch.randint(1, frames, (batch,), generator=generator)
    chosen = (torch.rand(batch, generator=generator) < 1 / 12) & allowed
    rows = torch.arange(batch)
    order[rows, slot] = torch.where(chosen, slot - 1, slot)
    return clips[rows[:, None], :, order].permute(0, 2, 1, 3, 4)


def encoded(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Through a real encoder and decoder, all clips side by side in one picture; uint8 levels come back as floats."""
    batch, _, frames, side, _ = clips.shape
    columns = int(np.ceil(np.sqrt(batch)))
    rows = -(-batch // columns)
    wall = torch.zeros(rows * columns, 3, frames, side, side)
    wall[:batch] = clips
    wall = wall.view(rows, columns, 3, frames, side, side).permute(3, 0, 4, 1, 5, 2)
    pictures = wall.reshape(frames, rows * side, columns * side, 3).clamp(0, 1).mul(255).round().byte().numpy()
    codec, pixel_format, options = _CODECS[int(torch.randint(0, len(_CODECS), (), generator=generator))]
    quality = float(torch.rand((), generator=generator))
    options = dict(options)
    if codec == "libx264":
        options["crf"] = str(round(20 + 16 * quality))
    decoded = _round_trip(pictures, codec, pixel_format, options, quality)
    back = torch.from_numpy(decoded).float().div(255).view(frames, rows, side, columns, side, 3)
    return back.permute(1, 3, 5, 0, 2, 4).reshape(rows * columns, 3, frames, side, side)[:batch]


def _round_trip(
    pictures: NDArray[np.uint8], codec: str, pixel_format: str, options: dict[str, str], q: float
) -> NDArray[np.uint8]:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream: Any = out.add_stream(codec, rate=8, options=options)
        stream.height, stream.width, stream.pix_fmt = pictures.shape[1], pictures.shape[2], pixel_format
        if codec != "libx264":
            stream.codec_context.qmin = stream.codec_context.qmax = round(2 + 10 * q)
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as back:
        frames = [frame.to_ndarray(format="rgb24") for frame in back.decode(video=0)]
    if len(frames) != len(pictures):
        raise RuntimeError(f"{codec} returned {len(frames)} of {len(pictures)} frames")
    return np.stack(frames)
