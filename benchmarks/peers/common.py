"""What the peers share with us: the file of the network, and two ways to decode. The rest of each is its own.

Settings come from the environment: PORT, MODELS (a repository with one model), WORKERS, BATCH, THREADS, and DECODE,
`service` for the packages of our own service or `plain` for what a tutorial would write.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common.models import raw
from service.contracts import JobRequest
from service.inference.registry import scan_repository
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import DecodeConfig

PORT = int(os.environ["PORT"])
WORKERS, BATCH, THREADS = (int(os.environ[name]) for name in ("WORKERS", "BATCH", "THREADS"))
# How long a batch may wait for more, where a framework asks; the documentations' examples have 5 to 100 ms.
BATCH_WAIT_S = 0.005

MODEL = scan_repository(Path(os.environ["MODELS"]))[-1]
SPEC = MODEL.spec
_LIMITS = Settings(_env_file=None).subset(DecodeConfig)
_REQUEST = JobRequest(windows=1)


def by_service(video: bytes) -> NDArray[np.uint8]:
    """The first window of a video by `service.video`: uint8 `[T, H, W, 3]`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        path, clips = Path(name) / "video", Path(name) / "clips"
        path.write_bytes(video)
        decode_file(path, clips, SPEC, _REQUEST, _LIMITS)
        return np.fromfile(clips, np.uint8).reshape(SPEC.clip_shape)


def plainly(video: bytes) -> NDArray[np.uint8]:
    """The same by PyAV as its examples show it: every frame is decoded, some are taken and resized."""
    with av.open(io.BytesIO(video), "r") as container:
        rate = float(container.streams.video[0].average_rate or 30)
        frames = list(container.decode(video=0))
    step = max(1, round(SPEC.span_s / SPEC.frames * rate))
    taken = [frames[min(step * k, len(frames) - 1)] for k in range(SPEC.frames)]
    return np.stack([frame.to_ndarray(width=SPEC.width, height=SPEC.height, format="rgb24") for frame in taken])


DECODERS: dict[str, Callable[[bytes], NDArray[np.uint8]]] = {"service": by_service, "plain": plainly}
decode = DECODERS[os.environ["DECODE"]]


class Network:
    """The network under TorchScript, as a good user would load it."""

    def __init__(self) -> None:
        torch.set_num_threads(THREADS)
        self._forward = raw(MODEL.path)
        for size in sorted({1, BATCH}):
            self(np.zeros((size, *SPEC.clip_shape), np.uint8))

    def __call__(self, clips: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """The best label of each of uint8 `[B, T, H, W, 3]`."""
        logits = self._forward(torch.from_numpy(np.ascontiguousarray(clips)))[0]
        scores, labels = torch.softmax(logits, -1).max(-1)
        return [
            {"label": SPEC.labels[label], "score": score}
            for label, score in zip(labels.tolist(), scores.tolist(), strict=True)
        ]
