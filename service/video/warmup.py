"""Decode a picture of our own before any upload, so that forks find the decoders' tables and all modules in memory."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

# Encoders that this build of FFmpeg may have, for the formats that most uploads are in.
_ENCODERS = ("libx264", "mpeg4", "mjpeg")
_SIZE = 64
_FRAMES = 4


def warm_up() -> None:
    """Encode and decode a few pictures in each common format."""
    for encoder in _ENCODERS:
        with suppress(FFmpegError, ValueError):
            _decode(_encode(encoder))


def _encode(encoder: str) -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        stream: Any = container.add_stream(encoder, rate=25)
        stream.width = stream.height = _SIZE
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(_FRAMES):
            picture = np.full((_SIZE, _SIZE, 3), 40 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    return file


def _decode(file: io.BytesIO) -> None:
    reformatter = VideoReformatter()
    with av.open(file, "r", format="mov") as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            reformatter.reformat(frame, _SIZE // 2, _SIZE // 2, format="rgb24", threads=1).to_ndarray()
