"""What a video may be, and what decoding may take."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.settings.setting_types import MIB, CommaList


class VideoSettings(BaseModel):
    """What a video may be, and what decoding may take."""

    decode_workers: int = Field(0, ge=0, description="Decode processes; 0 takes one per core that the process may use.")
    decode_isolation: Literal["caller", "upload"] = Field(
        "caller",
        description="Whose uploads one process decodes: those of one caller, or a single upload.",
    )
    decode_sandbox: Literal["require", "best_effort"] | None = Field(
        None,
        description="Whether uploads are decoded only where the system can sandbox decode processes.",
    )
    decode_crashes_per_layout: int = Field(
        5, ge=0, description="Crashes of decode processes after which new ones get another memory layout; 0 for never."
    )
    decode_crashes_per_caller: int = Field(
        20,
        ge=0,
        description="Uploads of one caller that may crash a decode process before further ones are refused;"
        " 0 for no limit.",
    )
    decode_crash_window_s: float = Field(600.0, gt=0, description="Time for which a crash counts against its caller.")
    decode_timeout_s: float = Field(60.0, gt=0, description="Wall-clock seconds one upload may decode.")
    decode_cpu_s: int = Field(120, gt=0, description="CPU seconds one upload may decode.")
    decode_memory_bytes: int = Field(2048 * MIB, gt=0, description="Address space of a decode process.")
    decode_recycle_after: int = Field(
        1000, gt=0, description="Uploads after which a process that decodes them is replaced."
    )
    allowed_containers: CommaList = Field(
        ("mp4", "matroska", "avi", "mpegts", "mpeg", "flv", "gif", "asf", "mxf", "h264", "hevc"),
        description="Container families accepted (mp4 covers mov and 3gp, matroska covers webm, asf covers wmv,"
        " h264 and hevc are bare streams).",
    )
    allowed_codecs: CommaList = Field(
        (
            "h264",
            "hevc",
            "vp8",
            "vp9",
            "av1",
            "mpeg4",
            "mpeg2video",
            "mpeg1video",
            "mjpeg",
            "gif",
            "prores",
            "h263",
            "flv1",
            "msmpeg4v2",
            "msmpeg4v3",
            "wmv1",
            "wmv2",
            "wmv3",
            "vc1",
            "cinepak",
            "dnxhd",
            "huffyuv",
            "vvc",
        ),
        description="Video codecs accepted, by FFmpeg's codec name.",
    )
    max_duration_s: float = Field(4 * 3600.0, gt=0, description="Longest video accepted.")
    max_pixels: int = Field(8192 * 4352, gt=0, description="Most pixels in one frame.")
    max_streams: int = Field(32, gt=0, description="Most streams in a container.")
    max_packets: int = Field(2_000_000, gt=0, description="Most packets read from a file.")
    max_decoded_frames: int = Field(500_000, gt=0, description="Most frames decoded for one upload.")
    max_auto_windows: int = Field(10, gt=0, description="Most windows that `windows=auto` plans.")
    max_clips_per_job: int = Field(200, gt=0, description="Most windows times crops in one job.")
    max_evidence_forwards: int = Field(
        1024, gt=0, description="Most clips that one job with `evidence=causal` may have scored."
    )
    max_spatial_cells: int = Field(
        500_000, gt=0, description="Most numbers of attention in space in one answer with `attention=spatial`."
    )
    min_distinct_frames: int = Field(4, gt=0, description="Fewest different frames that make an answer.")
    max_shots: int = Field(5000, gt=0, description="Most shots that are told apart in one video.")
