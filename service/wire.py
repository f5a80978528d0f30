"""Shapes that exist only over HTTP: the api writes them, the client reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.contracts import (
    Activation,
    Arithmetic,
    BatchState,
    Faithfulness,
    JobResult,
    JobState,
    JobSummary,
    LineState,
    ModelSpec,
    Sampling,
    WireModel,
)


class ModelInfo(BaseModel):
    """A model version that a live worker serves."""

    name: str
    version: str
    default: bool = Field(description="whether requests that name no model get this one")
    trained: bool
    description: str
    form: str
    weights_sha256: str
    arithmetic: Arithmetic = Field("fp32", description="number format that its workers compute in")
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
    attention: bool = Field(True, description="whether its answers say which frames it looked at")
    spatial_grid: tuple[int, int] | None = Field(
        None,
        description="rows and columns of its attention in space, with `attention=spatial`; null where it gives none",
    )
    embedding: int = Field(0, description="numbers of an embedding, with `embedding=true`; 0 where it gives none")
    faithfulness: Faithfulness | None = Field(
        None, description="how far its attention says which frames labels rest on; null where it was not measured"
    )

    @classmethod
    def of(cls, spec: ModelSpec, *, default: bool) -> ModelInfo:
        """The public part of `spec`."""
        return cls.model_validate(
            {
                **spec.model_dump(),
                "arithmetic": spec.computed_in,
                "span_s": spec.span_s,
                "attention": spec.layers > 0,
                "default": default,
            }
        )


class ModelList(BaseModel):
    """All served model versions, by name and then newest version first."""

    models: list[ModelInfo]
    by_url: bool = Field(False, description="whether this server fetches videos that are named by their URL")


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


class UploadStatus(BaseModel):
    """How an upload stands that arrives in pieces."""

    id: str
    length: int = Field(description="bytes that it will have")
    offset: int = Field(description="bytes that have arrived: where the next piece begins")
    expires_at: float = Field(description="Unix seconds after which it is erased, unless more of it arrives")


class BatchLinks(BaseModel):
    """Paths of what belongs to a batch."""

    self: str
    results: str


class BatchCounts(WireModel):
    """How many lines of a batch stand where."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class BatchDestination(WireModel):
    """The object that gets the results of a batch."""

    url: str
    status: Literal["pending", "written", "failed"]
    detail: str | None = Field(None, description="why it is not written")


class BatchStatus(BaseModel):
    """How a batch stands. Times are Unix seconds."""

    id: str
    status: BatchState
    counts: BatchCounts
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float = Field(description="when the batch and its results expire at the latest")
    destination: BatchDestination | None = None
    links: BatchLinks


class BatchPage(BaseModel):
    """Some of a caller's batches, newest first."""

    batches: list[BatchStatus]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


class BatchResult(WireModel):
    """How one line of a batch ended. `error` is that of a job."""

    seq: int = Field(description="counts the lines in the order in which they ended, from 1: `after` asks for the rest")
    line: int = Field(description="its number in the manifest, from 1")
    id: str | None = Field(None, description="what the manifest calls it")
    url: str
    status: LineState
    job: str | None = Field(None, description="id of its job; absent where none was made")
    result: JobResult | None = None
    error: Annotated[dict[str, Any], Field(title="JobError")] | None = Field(
        None, description="why there is no result: also where one that there was has expired or was deleted"
    )


class LiveStreamStatus(BaseModel):
    """How a live stream stands. Seconds count on its own clock, from its first picture."""

    id: str
    state: Literal["waiting", "running", "ended"] = Field(
        description="`waiting` until bytes come, and while no process holds it"
    )
    reason: str | None = Field(None, description="why it has ended: a word, or the code of an error")
    created_at: float = Field(description="Unix seconds")
    model: str
    version: str
    span_s: float = Field(description="seconds that a window covers")
    step_s: float = Field(description="seconds between the starts of windows")
    max_s: float = Field(description="seconds after which it ends")
    received: int = Field(description="bytes that have come: where the next piece begins")
    windows: int = Field(description="windows that were told of with an answer")
    dropped: int = Field(description="windows that were told of without one")
    position_s: float = Field(description="end of the last window that was decoded")
    delay_s: float = Field(description="seconds from the last byte of the last window to its answer")
    errors: int = Field(description="packets that did not decode")
    media_url: str | None = Field(None, description="path that takes its bytes; absent where a source is fetched")
    events_url: str = Field(description="path of its events")
