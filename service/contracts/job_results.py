"""Answers, and how a job stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.contracts.decoded_videos import AnswerWarning, SourceRead, VideoInfo
from service.contracts.job_records import JobState
from service.contracts.job_requests import JobRequest
from service.contracts.wire_types import Arithmetic
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


class FrameEvidence(WireModel):
    """What one sampled frame contributes to a score."""

    time_s: float = Field(description="presentation time of the frame, seconds from the first presented frame")
    frame: int = Field(description="slot in the window, 0 .. T-1")
    contribution: float = Field(description="its Shapley value; negative where it speaks against the label")
    enough: bool = Field(description="whether it is of the smallest set found that keeps 90 % of the score")


class WindowEvidence(WireModel):
    """What the frames of a window contribute to one label's score, by leaving frames out."""

    label: str
    score: float = Field(description="of the whole window")
    still_score: float = Field(description="where a single frame stands still; the contributions share the difference")
    error: float = Field(
        description="0 where the contributions are exact; else with 95 % confidence none is further off"
    )
    frames: tuple[FrameEvidence, ...]
    forwards: int = Field(description="clips that were scored for it, the whole ones among them")
    engine_ms: float = Field(description="milliseconds of the engine that they took")


class EvidenceCost(WireModel):
    """What the evidence of an answer cost."""

    forwards: int = Field(description="clips that were scored, the whole ones among them")
    engine_ms: float = Field(description="milliseconds of the engine that they took")


class Region(WireModel):
    """A part of the picture as players show it, in fractions of its width and height from the top left corner."""

    left: float
    top: float
    width: float
    height: float


class SpatialView(WireModel):
    """Where the class token read in one crop of a window, in the network's last layer."""

    region: Region = Field(description="what the crop shows; the grid divides it evenly")
    frames: tuple[tuple[tuple[float, ...], ...] | None, ...] = Field(
        description="for each sampled frame the rows of the grid, from the top, or null where the frame was dropped "
        "before the last layer; all numbers sum to at most 1, as what was read of class tokens has no place"
    )


class WindowResult(WireModel):
    """Labels and attention of one temporal window, averaged over its crops."""

    start_s: float
    end_s: float
    predictions: tuple[Prediction, ...]
    attention: tuple[FrameAttention, ...] | None = Field(
        None, description="absent with `attention=none`, and where the model gives none"
    )
    spatial_attention: tuple[SpatialView, ...] | None = Field(
        None, description="with `attention=spatial`: where the model looked, for each crop"
    )
    abstained: bool | None = Field(
        None,
        description="whether no label but qualifiers holds in this window; absent where the model has no thresholds",
    )
    evidence: WindowEvidence | None = Field(None, description="with `evidence=causal`")
    embedding: tuple[float, ...] | None = Field(
        None, description="with `embedding=true`: the model's embedding of the window, of length 1"
    )


class ModelRef(WireModel):
    """Which model answered."""

    name: str
    version: str
    trained: bool
    weights_sha256: str
    arithmetic: Annotated[Arithmetic, Field(title="Arithmetic")] | None = Field(
        None, description="number format that it was computed in; absent of earlier releases"
    )


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
    evidence_cost: EvidenceCost | None = Field(None, description="with `evidence=causal`")
    embedding: tuple[float, ...] | None = Field(
        None,
        description="with `embedding=true`: the mean of those of the windows, of length 1; "
        "only those of the same `weights_sha256` can be compared",
    )
    signature: str | None = Field(
        None,
        description="where the service signs: a JWS whose payload, left out of it, is the canonical JSON (RFC 8785) of "
        "this object without `signature`; `/.well-known/jwks.json` has the keys",
    )

    @property
    def document(self) -> dict[str, Any]:
        """As callers are told it: JSON without members that have no value.

        A signed answer of an earlier release stays without the members that came later: its signature covers none.
        """
        return self.model_dump(mode="json", exclude_none=True, exclude_unset=self.signature is not None)


def told(answer: WireModel, result: JobResult | None) -> str:
    """JSON of a result, or of what was made around one that was read from the queue; the result in it as `document`."""
    return answer.model_dump_json(exclude_none=True, exclude_unset=result is not None and result.signature is not None)


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
