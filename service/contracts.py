"""The nouns that all packages share. Pydantic and the standard library only; all objects are frozen.

Arrays stay out of here: a clip travels as raw bytes (C order, uint8, of the model's `clip_shape`) beside its ClipPlan.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

SCHEMA_VERSION = 1

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Quota = Annotated[str, Field(pattern=r"^[1-9]\d{0,14}/([1-9]\d{0,5} )?(second|minute|hour|day|month|year)s?$")]
Activation = Literal["softmax", "sigmoid"]
Precision = Literal["fp32", "bf16", "fp16"]
Sampling = Literal["time", "index"]
Resize = Literal["swscale_bilinear", "opencv_bilinear"]
Framing = Literal["crop", "whole"]
ClipFormat = Literal["rgb", "yuv420"]
AttentionDetail = Literal["none", "frames", "layers"]


class WireModel(BaseModel):
    """Base of what crosses Redis: a field that a newer writer added is ignored, so old and new processes mix."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# --- the model ---------------------------------------------------------------------------------------------------


class ClipSpec(WireModel):
    """How the clips of a model are made of a video: all that decoding needs to know of it."""

    frames: int = Field(gt=0, description="T, frames in a clip")
    frame_step: int = Field(gt=0, description="distance of sampled frames, in frames of the reference rate")
    reference_fps: float = Field(gt=0)
    sampling: Sampling
    height: int = Field(gt=0, description="H, pixels")
    width: int = Field(gt=0, description="W, pixels")
    resize_short_side: int = Field(gt=0, description="short side after resizing and before cropping, pixels")
    resize: Resize
    framing: Framing = Field(
        "crop", description="`crop` of the resized picture, or the `whole` picture squeezed to H x W"
    )
    clip_format: ClipFormat = Field(
        "rgb", description="how a picture travels: `rgb`, or 4:2:0 in BT.601 with limited range, half the bytes"
    )

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """`[T, H, W, 3]` of one clip in RGB, `[T, 3H/2, W, 1]` in 4:2:0: a picture's Y, then its U, then its V."""
        if self.clip_format == "yuv420":
            return (self.frames, self.height * 3 // 2, self.width, 1)
        return (self.frames, self.height, self.width, 3)

    @property
    def clip_bytes(self) -> int:
        """Bytes of one uint8 clip."""
        return math.prod(self.clip_shape)

    @property
    def odd_sizes(self) -> str | None:
        """The sizes that 4:2:0 cannot have, which halves them; None where all fit the format."""
        sizes = {name: getattr(self, name) for name in ("height", "width", "resize_short_side")}
        odd = [f"{name} {size}" for name, size in sizes.items() if size % 2]
        return ", ".join(odd) if odd and self.clip_format == "yuv420" else None

    @property
    def span_s(self) -> float:
        """Seconds of video that one window covers."""
        return self.frames * self.frame_step / self.reference_fps


class JobModel(WireModel):
    """The model of a job. Labels and thresholds are those that the worker serves which scores: they go with weights."""

    name: ModelName
    version: str
    weights_sha256: str = Field(description="SHA-256 of this version's model.pt")
    route: str = Field("", description="where its workers look for clips; empty where they know only its name")


class ModelSpec(ClipSpec, JobModel):
    """What a served model needs and means, read from its `config.pbtxt` (see `service.inference.spec`).

    It extends `ClipSpec` instead of holding one, because every release reads these fields flat from Redis. Code that
    makes clips takes a `ClipSpec`, and `clip` is one.
    """

    schema_version: int = SCHEMA_VERSION
    description: str = ""
    form: str = Field(description="network family and form, for example `cvidtr_paper`")
    trained: bool
    labels: tuple[str, ...] = Field(min_length=1)
    activation: Activation
    thresholds: tuple[float, ...] = Field(
        (), description="score of each label from which on it holds; empty where the model gives none"
    )
    qualifiers: tuple[str, ...] = Field(
        (), description="labels that only add to others, such as how a camera is held: by themselves they are no answer"
    )
    layers: int = Field(gt=0, description="L, rows of layer_attention and layer_retention")
    max_batch_size: int = Field(gt=0, description="clips in one inference call")
    precision: Precision = Field("fp32", description="number format of the served weights and products")

    @property
    def clip(self) -> ClipSpec:
        """What decoding needs, without the labels and all else."""
        return ClipSpec.model_construct(**{name: getattr(self, name) for name in ClipSpec.model_fields})

    @property
    def job_model(self) -> JobModel:
        """What a job keeps of it."""
        return JobModel.model_construct(**{name: getattr(self, name) for name in JobModel.model_fields})


# --- the request -------------------------------------------------------------------------------------------------


class JobRequest(WireModel):
    """Options of one classification, as the caller gave them."""

    model: ModelName | None = Field(None, description="model to use; the server's default when absent")
    version: str | None = Field(None, pattern=r"^[0-9]{1,18}$", description="model version; the newest when absent")
    top_k: int = Field(5, ge=1, le=1000, description="labels in each list of predictions")
    min_score: float = Field(0.0, ge=0.0, le=1.0, description="labels below this score are left out")
    windows: Literal["auto", "all"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="`auto`, `all` (back to back) or a number of temporal windows"
    )
    crops: Literal[1, 3] = Field(1, description="spatial crops of each window")
    start: float | None = Field(None, ge=0, allow_inf_nan=False, description="first second of the video to look at")
    end: float | None = Field(None, gt=0, allow_inf_nan=False, description="last second of the video to look at")
    attention: AttentionDetail = Field("frames", description="how much attention the answer carries")
    webhook: str | None = Field(None, max_length=2048, description="URL that gets a message when the job has ended")


# --- the video ---------------------------------------------------------------------------------------------------


class VideoInfo(WireModel):
    """What the upload is, as found by probing and decoding it."""

    duration_s: float = Field(description="seconds from the first presented frame to the end of the last")
    width: int = Field(description="display width in pixels, after rotation")
    height: int = Field(description="display height in pixels, after rotation")
    fps: float | None = Field(description="average frames per second; null where the file does not say")
    container: str
    codec: str
    rotation: int = Field(description="degrees counter-clockwise that the file asks players to turn the picture")
    frames_decoded: int


class AnswerWarning(WireModel):
    """Something the caller should know about an answer that was still given."""

    code: str
    detail: str


class SampledWindow(WireModel):
    """One temporal window and the real times of the frames that were sampled from it."""

    start_s: float
    end_s: float
    times_s: tuple[float, ...] = Field(description="presentation time of each of the T frames, in slot order")


class ClipPlan(WireModel):
    """Which view of a video a clip is. Clip number = window * crops + crop."""

    window: int = Field(ge=0)
    crop: int = Field(ge=0)


class DecodedVideo(WireModel):
    """What the video package returns beside the clips themselves."""

    video: VideoInfo
    coverage: float = Field(ge=0, le=1, description="share of the duration inside windows")
    windows: tuple[SampledWindow, ...]
    crops: int
    clip_shape: tuple[int, int, int, int]
    warnings: tuple[AnswerWarning, ...] = ()
    decode_ms: float

    @property
    def clips(self) -> tuple[ClipPlan, ...]:
        """All views, window-major: the order of the clips in the file and of the clip numbers."""
        return tuple(ClipPlan(window=w, crop=c) for w in range(len(self.windows)) for c in range(self.crops))


# --- the job -----------------------------------------------------------------------------------------------------


class JobState(StrEnum):
    """Where an accepted job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended: its state changes no more, unless it is replayed."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobClass(StrEnum):
    """Which of a model's two queues a job waits in; workers read them with weights."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class JobRecord(WireModel):
    """Everything the worker needs to turn a job's clip scores into its answer. Times are Unix seconds."""

    schema_version: int = SCHEMA_VERSION
    id: str
    request: JobRequest
    spec: SerializeAsAny[JobModel] = Field(description="a whole `ModelSpec` where workers of earlier releases read it")
    decoded: DecodedVideo
    created_at: float
    enqueued_at: float
    deadline_at: float
    upload_ms: float
    request_id: str = ""
    trace: str = Field("", description="W3C traceparent of the request; empty when it is not traced")
    job_class: JobClass = JobClass.INTERACTIVE
    owner: str = Field("", description="the tenant that sent it: `service.api.auth.Principal.tenant`")


class ClipScores(WireModel):
    """What the network said of one clip. Lists hold Python floats of the FP32 outputs."""

    logits: tuple[float, ...] = Field(description="[K]")
    temporal_attention: tuple[float, ...] = Field(description="[T], non-negative, sums to 1")
    layer_attention: tuple[tuple[float, ...], ...] = Field(description="[L][T]")
    layer_retention: tuple[tuple[float, ...], ...] = Field(description="[L][T]")
    queue_ms: float = 0.0
    inference_ms: float = 0.0


class DeadLetter(WireModel):
    """A job that was given up because of one of its clips, kept for a person to look at. Times are Unix seconds."""

    job_id: str
    clip: int = Field(description="the clip that ended the job")
    code: str = Field(description="code of the error the job failed with")
    detail: str = Field(description="its cause")
    model: str
    version: str
    deliveries: int = Field(description="how often the clip had been handed to a worker")
    created_at: float
    clip_bytes: int = Field(description="bytes of clips kept for a replay")


# The capability of workers that take the labels of an answer from the model that they serve, not from the job's record.
HOLDS_LABELS = "holds_labels"

BreakerState = Literal["closed", "half_open", "open"]


class WorkerStatus(WireModel):
    """What one live worker says of itself with every heartbeat."""

    worker: str = Field(description="its consumer name")
    models: tuple[str, ...] = Field((), description="the served models, as `name:version`")
    routes: tuple[str, ...] = Field((), description="the routes of the served models")
    breaker: BreakerState = "closed"
    retry_in_s: float = Field(0.0, description="seconds until an open breaker lets a batch try the backend")
    clips_per_s: dict[str, float] = Field({}, description="by model name, clips scored per busy second")
    capabilities: tuple[str, ...] = Field((), description="what it can do that workers of earlier releases cannot")


# --- the answer --------------------------------------------------------------------------------------------------


class Prediction(WireModel):
    """One label with its score."""

    label: str
    index: int
    score: float
    threshold: float | None = Field(
        None, description="score from which on the label holds; absent where the model gives none"
    )
    passes: bool | None = Field(
        None, description="whether the label holds: its score is at least its threshold; absent without one"
    )


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
    attention: tuple[FrameAttention, ...] | None = Field(None, description="null with `attention=none`")
    abstained: bool | None = Field(
        None,
        description="whether no label but qualifiers holds in this window; absent where the model has no thresholds",
    )


class ModelRef(WireModel):
    """Which model answered."""

    name: str
    version: str
    trained: bool
    weights_sha256: str


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
    warnings: tuple[AnswerWarning, ...] = ()
    abstained: bool | None = Field(
        None,
        description="whether no label but qualifiers holds for the whole video; absent where the model has no "
        "thresholds",
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
    error: dict[str, Any] | None = None
