"""Shapes that exist only over HTTP: the api writes them, the client reads them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.contracts import Activation, JobState, JobSummary, ModelSpec, Sampling, WireModel


class ModelInfo(BaseModel):
    """A model version that a live worker serves."""

    name: str
    version: str
    default: bool = Field(description="whether requests that name no model get this one")
    trained: bool
    description: str
    form: str
    weights_sha256: str
    activation: Activation
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = Field(
        (), description="of each label the score from which on it holds; empty where the model gives none"
    )
    qualifiers: tuple[str, ...] = Field((), description="labels that are no answer by themselves")
    frames: int = Field(description="frames sampled per window")
    frame_step: int = Field(description="distance of sampled frames, in frames of the reference rate")
    reference_fps: float
    sampling: Sampling = Field(description="whether frames are chosen by their time or by their number")
    span_s: float = Field(description="seconds of video that one window covers")
    width: int
    height: int

    @classmethod
    def of(cls, spec: ModelSpec, *, default: bool) -> ModelInfo:
        """The public part of `spec`."""
        return cls.model_validate({**spec.model_dump(), "span_s": spec.span_s, "default": default})


class ModelList(BaseModel):
    """All served model versions, by name and then newest version first."""

    models: list[ModelInfo]


class JobPage(BaseModel):
    """Some of a caller's jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


class JobEvent(WireModel):
    """One event of a followed job: it reached a state, with so many of its clips scored."""

    id: str = Field(description="id of the job")
    status: JobState
    clips_done: int
    clips_total: int
    event_id: str = Field("", description="id of the event: `Last-Event-ID` asks for those after it")
