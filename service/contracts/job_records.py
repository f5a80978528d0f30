"""Jobs on their way, and who works on them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, SerializeAsAny

from service.contracts.decoded_videos import DecodedVideo
from service.contracts.job_requests import JobRequest
from service.contracts.model_specs import JobModel
from service.contracts.wire_types import SCHEMA_VERSION
from service.wire_model import WireModel


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


class EvidencePlan(WireModel):
    """The clips that are scored beside the whole ones: what each frame contributes follows from them."""

    masks: int = Field(gt=0, description="clips with frames left out, of each view")
    window: int | None = Field(None, ge=0, description="the one window whose views those are; all when absent")
    orders: int = Field(description="random orders that the sets of frames are from, where not all subsets are scored")


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
    video_sha256: str = Field("", description="SHA-256 of the upload; empty where it is not known")
    owner: str = Field("", description="the tenant that sent it: `service.api.auth.Principal.tenant`")
    evidence: EvidencePlan | None = Field(None, description="absent where no evidence was asked for")

    @property
    def units(self) -> int:
        """Clips to score: each view whole, and then, for each set of frames, each of `masked_views` without others."""
        return self.decoded.clip_count + (self.evidence.masks if self.evidence else 0) * len(self.masked_views)

    @property
    def masked_views(self) -> range:
        """The numbers of the views that are scored with frames left out too."""
        views, crops = self.decoded.clip_count, self.decoded.crops
        if self.evidence is None or self.evidence.window is None:
            return range(views if self.evidence else 0)
        return range(self.evidence.window * crops, (self.evidence.window + 1) * crops)

    def view_of(self, clip: int) -> tuple[int, int]:
        """The view that a clip shows, and the number of its set of frames, from 1; 0 where it is whole."""
        views = self.decoded.clip_count
        if clip < views:
            return clip, 0
        number, view = divmod(clip - views, len(self.masked_views))
        return self.masked_views[view], 1 + number


class ClipScores(WireModel):
    """What the network said of one clip. Lists hold Python floats of the FP32 outputs."""

    logits: tuple[float, ...] = Field(description="[K]")
    temporal_attention: tuple[float, ...] = Field(
        (), description="[T], non-negative, sums to 1; empty where the model gives none"
    )
    layer_attention: tuple[tuple[float, ...], ...] = Field((), description="[L][T]")
    layer_retention: tuple[tuple[float, ...], ...] = Field((), description="[L][T]")
    spatial_attention: tuple[float, ...] = Field(
        (), description="[T * rows * columns] of the grid; empty where the model gives none or nobody asked for it"
    )
    embedding: tuple[float, ...] = Field((), description="[D], as the model gives it; empty where it gives none")
    queue_ms: float = 0.0
    inference_ms: float = Field(0.0, description="milliseconds of its batch")
    engine_ms: float = Field(0.0, description="its share of them; 0 in scores of earlier releases")


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
