"""One batch: fetch the payloads, drop what is not worth scoring, call the backend, split its answer."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np

from service.contracts import ClipScores
from service.errors import BackendFailed, DeadlineExceeded, VidtrError
from service.inference.backend import Backend, Scores
from service.queue.clip_entries import ClipEntry, ClipState, Delivery
from service.queue.clip_stream import ClipStream
from service.queue.clock import Clock
from service.telemetry import metrics, traces


@dataclass(frozen=True)
class LoadedClip:
    """A stream entry with its clip: uint8 `[T, H, W, 3]`."""

    entry: ClipEntry
    frames: np.ndarray
    record: bytes | None = None
    """of the clip's job, where `ClipState` has it"""


@dataclass(frozen=True)
class Rejected:
    """A clip that cannot be scored, and why."""

    entry: ClipEntry
    error: VidtrError


def batches(entries: Sequence[ClipEntry], max_batch: dict[tuple[str, str], int]) -> list[list[ClipEntry]]:
    """Split entries by model, version and clip shape into batches of at most the model's batch size.

    A clip that was lost before is a batch of its own.
    """

    def kind(entry: ClipEntry) -> tuple[str, str, tuple[int, ...]]:
        return entry.model, entry.version, entry.shape

    split: list[list[ClipEntry]] = []
    for (model, version, _), group in groupby(sorted(entries, key=kind), key=kind):
        together = []
        for entry in group:
            if entry.deliveries > 1:
                split.append([entry])
            else:
                together.append(entry)
        clips = iter(together)
        while batch := list(islice(clips, max_batch.get((model, version), 1))):
            split.append(batch)
    return split


def expiry(entry: ClipEntry, now: float) -> DeadlineExceeded | None:
    """The error of a clip whose job is too late at `now`, in Unix seconds; None for one that is in time."""
    if entry.deadline_at > now:
        return None
    return DeadlineExceeded(
        "the job's deadline passed before this clip was scored",
        limit=round(entry.deadline_at - entry.enqueued_at, 3),
        actual=round(now - entry.enqueued_at, 3),
    )


@dataclass(frozen=True)
class Found:
    """What became of the entries of a batch before it is scored."""

    clips: list[LoadedClip] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    over: list[tuple[ClipEntry, ClipState]] = field(default_factory=list)
    """entries whose job has ended or is unknown"""
    scored: list[ClipEntry] = field(default_factory=list)
    """entries whose scores another worker has written"""
    foreign: list[ClipEntry] = field(default_factory=list)
    """entries that other versions or weights are to score than this worker serves"""


async def load(
    stream: ClipStream,
    delivery: Delivery,
    entries: Sequence[ClipEntry],
    max_deliveries: int,
    served: Collection[tuple[str, str, str]],
    now: float,
) -> Found:
    """Fetch the payloads of these of the taken entries, in one round trip where they did not come along.

    What is over, scored, expired at `now` (Unix seconds of Redis), gone or delivered too often is set apart, and what
    is not for one of the `served`: name, version and SHA-256 of the weights of each.
    """
    with metrics.stage("batch"):
        came_along = all(entry in delivery.prefetched for entry in entries)
        states = [delivery.prefetched[entry] for entry in entries] if came_along else await stream.look_up(entries)
        unnamed = [entry for entry in entries if not entry.weights]
        weights = await stream.weights(unnamed) if unnamed else {}
    found = Found()
    for entry, state in zip(entries, states, strict=True):
        if state.job != "open":
            found.over.append((entry, state))
        elif state.scored:
            found.scored.append(entry)
        elif (entry.model, entry.version, entry.weights or weights[entry.job_id]) not in served:
            found.foreign.append(entry)
        else:
            try:
                found.clips.append(_loaded(entry, state, now, max_deliveries))
            except VidtrError as error:
                found.rejected.append(Rejected(entry, error))
    return found


def _loaded(entry: ClipEntry, state: ClipState, now: float, max_deliveries: int) -> LoadedClip:
    payload = state.payload
    if late := expiry(entry, now):
        raise late
    if payload is None:
        raise DeadlineExceeded("the clip's payload is gone: it outlived its time in Redis, or was dropped")
    if entry.deliveries > max_deliveries:
        raise BackendFailed(
            f"the clip was handed out too often without being scored; {state.failure or 'workers died over it'}",
            limit=max_deliveries,
            actual=entry.deliveries,
        )
    size = math.prod(entry.shape)
    if len(payload) != size:
        raise BackendFailed("the clip's payload has the wrong size", limit=size, actual=len(payload))
    return LoadedClip(entry, np.frombuffer(payload, dtype=np.uint8).reshape(entry.shape), state.record)


@dataclass(frozen=True)
class Scored:
    """Scores of a batch, and when the backend had it: Unix seconds."""

    scores: dict[ClipEntry, ClipScores]
    started: float
    ended: float
    trace: str
    """the trace of the batch"""


async def score(backend: Backend, clips: Sequence[LoadedClip], clock: Clock) -> Scored:
    """Scores of clips of one model, version and shape. Raises BackendUnavailable or BackendFailed for all of them.

    The backend gets as long as the last of their deadlines allows.
    """
    first = clips[0].entry
    batch = np.stack([clip.frames for clip in clips])  # [B, T, H, W, 3]
    started, started_clock = time.perf_counter(), clock.now()
    left_s = max(clip.entry.deadline_at for clip in clips) - started_clock
    # A batch belongs to no one request: it is a trace of its own, linked with those of its clips.
    links = [clip.entry.trace for clip in clips]
    with traces.span("batch", kind="consumer", parent="", links=links, model=first.model, clips=len(clips)):
        with traces.span("inference", kind="client"), metrics.stage("inference"):
            outputs = await backend.infer(first.model, first.version, batch, timeout_s=max(0.001, left_s))
        together = traces.traceparent()
    inference_ms = (time.perf_counter() - started) * 1000
    scores = {
        clip.entry: clip_scores(outputs, row, (started_clock - clip.entry.enqueued_at) * 1000, inference_ms)
        for row, clip in enumerate(clips)
    }
    return Scored(scores, started_clock, started_clock + inference_ms / 1000, together)


def observe(scored: Scored) -> None:
    """Count a batch, once its callers have their answers."""
    first, clips = next(iter(scored.scores)), len(scored.scores)
    metrics.BATCH_CLIPS.labels(first.model).observe(clips)
    metrics.MODEL_CLIPS.labels(first.model, first.version).inc(clips)
    for entry in scored.scores:
        metrics.STAGE.labels("queue").observe(max(0.0, scored.started - entry.enqueued_at))
        traces.record("queue", entry.enqueued_at, scored.started, parent=entry.trace, clip=entry.clip)
        traces.record(
            "inference", scored.started, scored.ended, parent=entry.trace, links=[scored.trace], clip=entry.clip
        )


def clip_scores(outputs: Scores, row: int, queue_ms: float, inference_ms: float) -> ClipScores:
    return ClipScores(
        logits=tuple(outputs.logits[row].tolist()),
        temporal_attention=tuple(outputs.temporal_attention[row].tolist()),
        layer_attention=tuple(map(tuple, outputs.layer_attention[row].tolist())),
        layer_retention=tuple(map(tuple, outputs.layer_retention[row].tolist())),
        queue_ms=max(0.0, queue_ms),
        inference_ms=inference_ms,
    )
