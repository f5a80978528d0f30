"""What the video package needs to know. `service.settings.Settings` describes the fields, under the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.errors import PixelLimit


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """What an upload may be and what a request may ask of it."""

    allowed_containers: tuple[str, ...]
    allowed_codecs: tuple[str, ...]
    max_duration_s: float
    max_pixels: int
    max_streams: int
    max_packets: int
    max_decoded_frames: int
    max_auto_windows: int
    max_clips_per_job: int
    min_distinct_frames: int
    max_shots: int

    def check_pixels(self, width: int, height: int) -> None:
        """Raise PixelLimit if a picture of `width` x `height` has more than `max_pixels`."""
        if width * height > self.max_pixels:
            raise PixelLimit(
                f"A frame has {width} x {height} = {width * height} pixels; at most {self.max_pixels} are accepted.",
                limit=self.max_pixels,
                actual=width * height,
            )


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(VideoLimits):
    """The limits, and the processes that enforce them."""

    decode_workers: int
    decode_isolation: Literal["caller", "upload"]
    decode_sandbox: Literal["require", "best_effort"] | None
    decode_crashes_per_layout: int
    decode_crashes_per_caller: int
    decode_crash_window_s: float
    decode_timeout_s: float
    decode_cpu_s: int
    decode_memory_bytes: int
    decode_recycle_after: int
