"""Batches: clips that go to the backend together, and its answer split into their scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from service.contracts import ClipScores
from service.inference.backend import Backend, Scores
from service.queue.clip_entries import ClipEntry
from service.queue.clock import Clock
from service.telemetry import metrics, traces
from service.worker.triage import LoadedClip


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


@dataclass(frozen=True)
class ScoredBatch:
    """Scores of a batch, and from when to when the backend computed them, in Unix seconds."""

    scores: dict[ClipEntry, ClipScores]
    started: float
    ended: float
    trace: str
    """the trace of the batch"""


async def score(backend: Backend, clips: Sequence[LoadedClip], clock: Clock) -> ScoredBatch:
    """Scores of clips of one model, version and shape. Raises BackendUnavailable or BackendFailed for all of them.

    The backend may take until the latest of their deadlines.
    """
    first = clips[0].entry
    batch = np.stack([clip.frames for clip in clips])  # [B, T, H, W, 3]
    started, started_clock = time.perf_counter(), clock.now()
    left_s = max(clip.entry.deadline_at for clip in clips) - started_clock
    # A batch belongs to several requests: it has a trace of its own, which is linked to those of its clips.
    links = [clip.entry.trace for clip in clips]
    with traces.span("batch", kind="consumer", parent="", links=links, model=first.model, clips=len(clips)):
        with traces.span("inference", kind="client"), metrics.stage("inference"):
            outputs = await backend.infer(first.model, first.version, batch, timeout_s=max(0.001, left_s))
        together = traces.traceparent()
    inference_ms = (time.perf_counter() - started) * 1000
    scores = {
        clip.entry: clip_scores(
            outputs,
            row,
            (started_clock - clip.entry.enqueued_at) * 1000,
            inference_ms,
            masked=bool(clip.entry.kept),
            spatial=clip.entry.spatial,
        )
        for row, clip in enumerate(clips)
    }
    return ScoredBatch(scores, started_clock, started_clock + inference_ms / 1000, together)


def observe(scored: ScoredBatch) -> None:
    """Record metrics and traces of a batch, after its callers have their answers."""
    first, clips = next(iter(scored.scores)), len(scored.scores)
    metrics.BATCH_CLIPS.labels(first.model).observe(clips)
    metrics.MODEL_CLIPS.labels(first.model, first.version).inc(clips)
    for entry in scored.scores:
        metrics.STAGE.labels("queue").observe(max(0.0, scored.started - entry.enqueued_at))
        traces.record("queue", entry.enqueued_at, scored.started, parent=entry.trace, clip=entry.clip)
        traces.record(
            "inference", scored.started, scored.ended, parent=entry.trace, links=[scored.trace], clip=entry.clip
        )


def clip_scores(
    outputs: Scores,
    row: int,
    queue_ms: float,
    inference_ms: float,
    *,
    masked: bool = False,
    spatial: bool = False,
) -> ClipScores:
    """The scores of one clip of a batch, in row `row` of its outputs; attention in space only with `spatial`.

    Of a `masked` clip the logits alone count.
    """
    times = {
        "queue_ms": max(0.0, queue_ms),
        "inference_ms": inference_ms,
        "engine_ms": inference_ms / len(outputs.logits),
    }
    logits = tuple(outputs.logits[row].tolist())
    if masked:
        return ClipScores(logits=logits, **times)
    return ClipScores(
        logits=logits,
        temporal_attention=tuple(outputs.temporal_attention[row].tolist()),
        layer_attention=tuple(map(tuple, outputs.layer_attention[row].tolist())),
        layer_retention=tuple(map(tuple, outputs.layer_retention[row].tolist())),
        spatial_attention=tuple(outputs.spatial_attention[row].ravel().tolist()) if spatial else (),
        embedding=tuple(outputs.embedding[row].tolist()),
        **times,
    )
