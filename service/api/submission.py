"""One upload on its way to a job: its sender, its options, and the key of an earlier equal upload."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from service.api.auth import Principal
from service.api.request_headers import WaitPolicy
from service.api.spool import Spool
from service.causal_evidence import evidence_clips
from service.contracts import DecodedVideo, EvidencePlan, JobRecord, JobRequest, JobState, JobStatus, ModelSpec
from service.queue.result_bus import JobCompletion
from service.telemetry import traces

_ADDED_OPTIONS = ("stride", "split", "evidence", "evidence_label", "evidence_window", "evidence_orders")

# Called with the name of a stage that is complete, and with what is known then.
Report = Callable[[str, dict[str, Any]], None]
# Called with a job whose first clips are queued, and with a way to its record, which grows while its video is decoded.
Follow = Callable[[JobStatus, Callable[[], JobRecord | None]], None]


@dataclass(frozen=True)
class Submission:
    """One request to classify a video."""

    request: Request
    options: JobRequest
    wait_policy: WaitPolicy
    caller: Principal
    idempotency_key: str | None = None
    compared: bool = True
    """whether the video of an earlier request with the key is compared with this one; not where the key says enough"""
    report: Report = lambda stage, known: None
    """called with `uploaded` when the upload is complete, with `planned` when the first clips of a job in stages are
    queued, and with `decoded` when all its clips are made"""
    follow: Follow | None = None
    """of a caller who wants to see windows as they are scored: a long job is accepted in stages then"""
    job_id: str = ""
    """empty until it is admitted: the id says in which partition the job is"""
    began: float = field(default_factory=time.monotonic)
    trace: str = field(default_factory=traces.traceparent)

    @property
    def phases(self) -> traces.Phases:
        """The phases of its request, for traces and logs."""
        phases: traces.Phases = self.request.state.phases
        return phases

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        """Seconds until its deadline."""
        return max(0.0, self.wait_policy.deadline_s - self.elapsed_s)


@dataclass(frozen=True)
class Submitted:
    """A job that was accepted, by this request or by an earlier one."""

    status: JobStatus
    keyed: bool
    """whether a client can look it up later, so that it outlives its connection"""
    cached: bool = False
    unended: JobCompletion | None = None
    """of a job that was accepted just now: set when it ends"""


@dataclass(frozen=True)
class CacheLookup:
    """How to find an earlier result of the same upload; empty where the upload was not hashed."""

    fingerprint: str = ""
    """of its bytes and options"""
    cache_key: str | None = None
    """key of such a result; None without a cache, and for jobs with a webhook, each of which notifies for itself"""
    video_sha256: str = ""
    """of the upload; empty of a video by URL too"""


def fingerprint(spool: Spool, options: JobRequest) -> str:
    """A digest of the upload and its options."""
    # Processes of earlier releases know nothing of these, and have to get the same digest.
    added = {name for name in _ADDED_OPTIONS if getattr(options, name) == JobRequest.model_fields[name].default}
    return hashlib.sha256(f"{spool.sha256} {options.model_dump_json(exclude=added)}".encode()).hexdigest()


def quota_seconds(decoded: DecodedVideo, options: JobRequest) -> int:
    """Seconds of the part that was asked for, rounded up: what a quota counts."""
    duration_s = decoded.video.duration_s
    end_s = duration_s if options.end is None else min(options.end, duration_s)
    return max(1, math.ceil(end_s - (options.start or 0.0)))


def evidence_seconds(decoded: DecodedVideo, spec: ModelSpec, planned: EvidencePlan | None) -> int:
    """Seconds of the clips that are scored for evidence alone: each counts as the span of a window."""
    if planned is None:
        return 0
    views = decoded.clip_count
    return math.ceil((evidence_clips(planned, views, decoded.crops) - views) * spec.span_s)


def queued(record: JobRecord) -> JobStatus:
    """The status of a job that was accepted just now, made without Redis, which may be unreachable meanwhile."""
    return JobStatus(
        id=record.id,
        status=JobState.QUEUED,
        created_at=record.created_at,
        deadline_at=record.deadline_at,
        clips_total=record.units,
        clips_done=0,
        model=record.spec.name,
        version=record.spec.version,
    )
