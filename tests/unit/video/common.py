"""Limits, models and a shorthand shared by the tests of the video package."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.contracts import ClipSpec, DecodedVideo, JobRequest
from service.settings import Settings
from service.video.clips import decode_file
from service.video.config import DecodeConfig, VideoLimits
from service.video.decode_report import Asked, read_report, report_of

SHARED = Path(__file__).parents[4] / "shared"

LIMITS = VideoLimits(
    allowed_containers=Settings.model_fields["allowed_containers"].default,
    allowed_codecs=tuple(name for name in Settings.model_fields["allowed_codecs"].default if name != "prores"),
    max_duration_s=3600.0,
    max_pixels=4096 * 2304,
    max_streams=32,
    max_packets=100_000,
    max_decoded_frames=10_000,
    max_auto_windows=10,
    max_clips_per_job=200,
    min_distinct_frames=4,
    max_shots=100,
)
SPEC = ClipSpec(
    frames=8,
    frame_step=4,
    reference_fps=30.0,
    sampling="time",
    height=64,
    width=64,
    resize_short_side=64,
    resize="swscale_bilinear",
)


def limits(**changes: Any) -> VideoLimits:
    return replace(LIMITS, **changes)


def spec(**changes: Any) -> ClipSpec:
    return SPEC.model_copy(update=changes)


def config(**changes: Any) -> DecodeConfig:
    processes = {
        "decode_workers": 1,
        "decode_isolation": "caller",
        "decode_sandbox": None,
        "decode_crashes_per_layout": 0,
        "decode_crashes_per_caller": 0,
        "decode_crash_window_s": 600.0,
        "decode_timeout_s": 60.0,
        "decode_cpu_s": 60,
        "decode_memory_bytes": 2 * 1024**3,
        "decode_recycle_after": 100,
    }
    return DecodeConfig(**{**asdict(LIMITS), **processes, **changes})


def decode(
    path: Path, request: JobRequest | None = None, model: ClipSpec = SPEC, bounds: VideoLimits = LIMITS
) -> tuple[DecodedVideo, NDArray[np.uint8]]:
    """The answer, and the clips as `[windows, crops, T, H, W, 3]`."""
    request = request or JobRequest()
    out = path.with_name(path.name + ".clips")
    answer = decode_file(path, out, model, request, bounds)
    clips = np.fromfile(out, dtype=np.uint8)
    # Whatever a test decodes, a pool would believe.
    asked = Asked(model, request, config(**asdict(bounds)), bounds.max_clips_per_job)
    assert read_report(json.dumps(report_of(answer)).encode(), asked, clips.nbytes) == answer
    return answer, clips.reshape(len(answer.windows), answer.crops, *answer.clip_shape)
