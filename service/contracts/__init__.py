"""The nouns that all packages share. Pydantic and the standard library only; all objects are frozen.

Arrays stay out of here: a clip travels as raw bytes (C order, uint8, of the model's `clip_shape`) beside its ClipPlan.
"""

from __future__ import annotations

from service.contracts.attention_measures import (
    Faithfulness,
    TimeNeed,
)
from service.contracts.batch_records import (
    BatchLine,
    BatchRecord,
    BatchState,
    LineOutcome,
    LineState,
)
from service.contracts.decoded_videos import (
    AnswerWarning,
    ClipPlan,
    DecodedVideo,
    Mirror,
    SampledWindow,
    SourceRead,
    VideoInfo,
)
from service.contracts.job_records import (
    HOLDS_LABELS,
    BreakerState,
    ClipScores,
    DeadLetter,
    EvidencePlan,
    JobClass,
    JobRecord,
    JobState,
    WorkerStatus,
)
from service.contracts.job_requests import (
    JobRequest,
)
from service.contracts.job_results import (
    EvidenceCost,
    FrameAttention,
    FrameEvidence,
    JobResult,
    JobStatus,
    JobSummary,
    ModelRef,
    Provenance,
    Timings,
    WindowEvidence,
    WindowResult,
)
from service.contracts.model_specs import (
    ClipSpec,
    JobModel,
    ModelSpec,
    output_shapes,
)
from service.contracts.wire_types import (
    SCHEMA_VERSION,
    Activation,
    AttentionDetail,
    ClipFormat,
    EvidenceKind,
    Framing,
    ModelName,
    NamedWindows,
    Precision,
    Quota,
    Resize,
    Sampling,
    Split,
    Windows,
)
from service.moments import (
    Event,
    EventRules,
    LabelShare,
    Prediction,
    Shot,
    ShotBoundary,
    VideoSummary,
)
from service.wire_model import (
    WireModel,
)

__all__ = [
    "HOLDS_LABELS",
    "SCHEMA_VERSION",
    "Activation",
    "AnswerWarning",
    "AttentionDetail",
    "BatchLine",
    "BatchRecord",
    "BatchState",
    "BreakerState",
    "ClipFormat",
    "ClipPlan",
    "ClipScores",
    "ClipSpec",
    "DeadLetter",
    "DecodedVideo",
    "Event",
    "EventRules",
    "EvidenceCost",
    "EvidenceKind",
    "EvidencePlan",
    "Faithfulness",
    "FrameAttention",
    "FrameEvidence",
    "Framing",
    "JobClass",
    "JobModel",
    "JobRecord",
    "JobRequest",
    "JobResult",
    "JobState",
    "JobStatus",
    "JobSummary",
    "LabelShare",
    "LineOutcome",
    "LineState",
    "Mirror",
    "ModelName",
    "ModelRef",
    "ModelSpec",
    "NamedWindows",
    "Precision",
    "Prediction",
    "Provenance",
    "Quota",
    "Resize",
    "SampledWindow",
    "Sampling",
    "Shot",
    "ShotBoundary",
    "SourceRead",
    "Split",
    "TimeNeed",
    "Timings",
    "VideoInfo",
    "VideoSummary",
    "WindowEvidence",
    "WindowResult",
    "Windows",
    "WireModel",
    "WorkerStatus",
    "output_shapes",
]
