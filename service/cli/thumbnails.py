"""Small pictures of the frames that an answer speaks of, decoded as an upload is: in a limited process."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.contracts import ClipSpec, JobRequest, VideoInfo
from service.settings import Settings
from service.video.config import DecodeConfig
from service.video.pool import DecodePool
from service.wire import ModelInfo

SHORT_SIDE = 96
LONGEST_SIDE = 3 * SHORT_SIDE


def thumbnails(
    path: Path, model: ModelInfo, video: VideoInfo, options: JobRequest, settings: Settings
) -> NDArray[np.uint8]:
    """Pictures `[N, T, h, w, 3]` of the T frames of each of the N windows that `model` saw with `options`.

    They show the whole picture, in the proportions of `video`. Raises what decoding raises.
    """
    width, height = _size(video)
    clip = ClipSpec(
        frames=model.frames,
        frame_step=model.frame_step,
        reference_fps=model.reference_fps,
        sampling=model.sampling,
        height=height,
        width=width,
        resize_short_side=min(width, height),
        resize="swscale_bilinear",
    )
    return asyncio.run(_decode(path, clip, options.model_copy(update={"crops": 1}), settings))


def _size(video: VideoInfo) -> tuple[int, int]:
    """Width and height, even; a very long or very high picture loses its ends."""
    scale = SHORT_SIDE / min(video.width, video.height)
    width, height = (min(LONGEST_SIDE, 2 * int(side * scale / 2)) for side in (video.width, video.height))
    return width, height


async def _decode(path: Path, clip: ClipSpec, options: JobRequest, settings: Settings) -> NDArray[np.uint8]:
    pool = DecodePool(settings.subset(DecodeConfig))
    with tempfile.TemporaryDirectory(prefix="vidtr-explain-") as scratch:
        try:
            await pool.start()
            out = Path(scratch) / "clips"
            decoded = await pool.decode(path, out, clip, options)
            pictures = np.fromfile(out, dtype=np.uint8)
            return pictures.reshape(len(decoded.windows), *clip.clip_shape)
        finally:
            await pool.close()
