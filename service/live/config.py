"""Limits of live streams. `service.settings.Settings` describes the fields, under the same names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamConfig:
    """What a session may take, and how long things may last."""

    stream_max_s: float
    stream_idle_s: float
    stream_buffer_bytes: int
    stream_clip_bytes: int
    stream_max_delay_s: float
    stream_max_waiting: int
    stream_min_step_s: float
    stream_keep_events: int
    stream_lease_s: float
    stream_reconnect_s: float
