"""Contracts with sensible values, for tests that care about one of them."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import numpy as np

from service.contracts import (
    ClipScores,
    DecodedVideo,
    Faithfulness,
    JobRecord,
    JobRequest,
    ModelSpec,
    SampledWindow,
    VideoInfo,
)

LABELS = ("static", "pan_left", "pan_right", "zoom_in")


def spec(**changes: Any) -> ModelSpec:
    """A model of 4 frames of 8x8 pixels, 4 labels and 2 layers."""
    values: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "form": "cvidtr_paper",
        "trained": True,
        "weights_sha256": "0" * 64,
        "labels": LABELS,
        "activation": "softmax",
        "frames": 4,
        "frame_step": 2,
        "reference_fps": 8.0,
        "sampling": "time",
        "height": 8,
        "width": 8,
        "resize_short_side": 8,
        "resize": "swscale_bilinear",
        "layers": 2,
        "max_batch_size": 8,
    }
    return ModelSpec(**{**values, **changes})


def faithfulness(**changes: Any) -> Faithfulness:
    """What was measured of a model whose attention tells 41 % of what is attainable."""
    values: dict[str, Any] = {
        "source": "videos",
        "seen": 140,
        "clips": 120,
        "deletion_gap": 0.41,
        "deletion_gap_error": 0.09,
        "insertion_gap": 0.44,
        "insertion_gap_error": 0.1,
        "rank_correlation": 0.21,
        "rank_correlation_error": 0.08,
        "same_top_frame": 0.21,
        "stability": 0.97,
    }
    return Faithfulness(**{**values, **changes})


def decoded(windows: int = 1, crops: int = 1, **changes: Any) -> DecodedVideo:
    """A decoded video of back-to-back one-second windows."""
    values: dict[str, Any] = {
        "video": VideoInfo(
            duration_s=float(windows),
            width=64,
            height=48,
            fps=8.0,
            container="mp4",
            codec="h264",
            rotation=0,
            frames_decoded=8 * windows,
        ),
        "coverage": 1.0,
        "windows": tuple(
            SampledWindow(start_s=float(w), end_s=w + 1.0, times_s=tuple(w + t / 4 for t in range(4)))
            for w in range(windows)
        ),
        "crops": crops,
        "clip_shape": (4, 8, 8, 3),
        "decode_ms": 5.0,
    }
    return DecodedVideo(**{**values, **changes})


def record(*, request: JobRequest | None = None, deadline_s: float = 60.0, **changes: Any) -> JobRecord:
    """A job that was enqueued just now."""
    now = time.time()
    values: dict[str, Any] = {
        "id": uuid4().hex,
        "request": request or JobRequest(),
        "spec": spec(),
        "decoded": decoded(),
        "created_at": now,
        "enqueued_at": now,
        "deadline_at": now + deadline_s,
        "upload_ms": 1.0,
    }
    return JobRecord(**{**values, **changes})


def scores(logits: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0), **changes: Any) -> ClipScores:
    """Scores of a clip whose last frame got half of the attention."""
    values: dict[str, Any] = {
        "logits": logits,
        "temporal_attention": (0.125, 0.125, 0.25, 0.5),
        "layer_attention": ((0.25, 0.25, 0.25, 0.25), (0.0, 0.0, 0.5, 0.5)),
        "layer_retention": ((1.0, 1.0, 1.0, 1.0), (0.0, 1.0, 0.0, 1.0)),
        "queue_ms": 2.0,
        "inference_ms": 3.0,
    }
    return ClipScores(**{**values, **changes})


def clip(seed: int, shape: tuple[int, ...] = (4, 8, 8, 3)) -> bytes:
    """Random uint8 pixels of one clip."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).tobytes()
