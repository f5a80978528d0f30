"""Answers, and how a job stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.contracts.decoded_videos import AnswerWarning, SourceRead, VideoInfo
from service.contracts.job_records import JobState
from service.contracts.job_requests import JobRequest
from service.moments import Event, Prediction, Shot, VideoSummary
from service.wire_model import WireModel


class FrameAttention(WireModel):
    """How much one sampled frame counted."""

    time_s: float = Field(description="presentation time of the frame, seconds from the first presented frame")
    frame: int = Field(description="slot in the window, 0 .. T-1")
    score: float = Field(description="temporal attention; the scores of a window sum to 1")
    retention: float = Field(description="share of heads x locations that still carry the frame after the last layer")
    layer_scores: tuple[float, ...] | None = Field(None, description="attention of each layer, with `attention=layers`")
    layer_retention: tuple[float, ...] | None = Field(None, description="retention after each layer")


class WindowResult(WireModel):
    """Labels and attention of one temporal window, averaged over its crops."""

    start_s: float
    end_s: float
    predictions: tuple[Prediction, ...]
    attention: tuple[FrameAttention, ...] | None = Field(
        None, description="absent with `attention=none`, and where the model gives none"
    )
    abstained: bool | None = Field(
        None,
        description="whether no label but qualifiers holds in this window; absent where the model has no thresholds",
    )
    embedding: tuple[float, ...] | None = Field(
        None, description="with `embedding=true`: the model's embedding of the window, of length 1"
    )


class ModelRef(WireModel):
    """Which model answered."""

    name: str
    version: str
    trained: bool
    weights_sha256: str


class Provenance(WireModel):
    """What an answer was made of, beside its model: enough to compute it again. `vidtr verify` does."""

    options: JobRequest = Field(description="what was asked for, with all defaults; a webhook is left out")
    video_sha256: str | None = Field(
        None, description="SHA-256 of the uploaded file; absent of a video by URL, and where `hash_uploads` is off"
    )
    release: str = Field(description="version of the service")


class Timings(WireModel):
    """Milliseconds spent in each stage. `queue` and `inference` are those of the slowest clip."""

    upload: float
    decode: float
    queue: float
    inference: float
    total: float


class JobResult(WireModel):
    """The answer to a classification."""

    id: str
    status: Literal["succeeded"] = "succeeded"
    model: ModelRef
    coverage: float
    video: VideoInfo
    predictions: tuple[Prediction, ...]
    windows: tuple[WindowResult, ...]
    timings_ms: Timings
    provenance: Provenance | None = Field(None, description="what the answer was made of; absent of earlier releases")
    source: SourceRead | None = Field(None, description="what was fetched of a video by URL; absent for an upload")
    warnings: tuple[AnswerWarning, ...] = ()
    abstained: bool | None = Field(
        None,
        description="whether no label but qualifiers holds for the whole video; absent where the model has no "
        "thresholds",
    )
    events: tuple[Event, ...] | None = Field(
        None, description="when which label holds, by their start; absent where the model has no thresholds"
    )
    shots: tuple[Shot, ...] | None = Field(
        None, description="the shots of the video; absent unless they were looked for"
    )
    summary: VideoSummary | None = Field(None, description="what the events add up to; absent without `events`")
    embedding: tuple[float, ...] | None = Field(
        None,
        description="with `embedding=true`: the mean of those of the windows, of length 1; "
        "only those of the same `weights_sha256` can be compared",
    )


class JobSummary(WireModel):
    """How a job stands. Times are Unix seconds."""

    id: str
    status: JobState
    created_at: float
    deadline_at: float
    clips_total: int
    clips_done: int
    model: str
    version: str


class JobStatus(JobSummary):
    """What `GET /v1/jobs/{id}` says. `error` is the payload of `service.errors.VidtrError.to_dict`."""

    result: JobResult | None = None
    error: Annotated[dict[str, Any], Field(title="JobError")] | None = None
