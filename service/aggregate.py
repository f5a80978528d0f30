"""Clip scores to a job's answer. Pure: no clock, no I/O; used by the worker, the command line and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.contracts import (
    Activation,
    AnswerWarning,
    ClipScores,
    FrameAttention,
    JobRecord,
    JobRequest,
    JobResult,
    ModelRef,
    ModelSpec,
    Prediction,
    SampledWindow,
    Timings,
    WindowResult,
)

Array = NDArray[np.float64]

SCORE_DIGITS = 6
STANDS_OUT = 1.6
"""Times an even share that a frame's attention must have before the frame is named as the one that counted most."""
NOTHING_CLEAR = "no clear motion"
"""What is said in place of a label where a model abstains."""


def probabilities(logits: Array, activation: Activation) -> Array:
    """Scores in 0..1 of `[..., K]` logits: softmax over the labels, or a sigmoid of each."""
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def ranked(
    scores: Array,
    labels: Sequence[str],
    top_k: int,
    min_score: float,
    thresholds: Sequence[float] = (),
    qualifiers: Sequence[str] = (),
) -> tuple[Prediction, ...]:
    """The best `top_k` of `[K]` scores that reach `min_score`, best first; equal scores keep the label order.

    With `thresholds`, one for each label, those that pass theirs come first, because a score is high or low only beside
    it; of these the `qualifiers` last, which are no answer by themselves.
    """
    passes = scores >= np.asarray(thresholds) if thresholds else np.zeros(len(scores), dtype=bool)
    order = np.lexsort((-scores, passes & _named(labels, qualifiers), ~passes))[:top_k]
    return tuple(
        Prediction(
            label=labels[i],
            index=int(i),
            score=round(float(scores[i]), SCORE_DIGITS),
            threshold=thresholds[i] if thresholds else None,
            passes=bool(passes[i]) if thresholds else None,
        )
        for i in order
        if scores[i] >= min_score
    )


def abstains(
    scores: Array, labels: Sequence[str], thresholds: Sequence[float], qualifiers: Sequence[str] = ()
) -> bool | None:
    """Whether of `[K]` scores none but those of `qualifiers` reaches its threshold; None without thresholds."""
    if not thresholds:
        return None
    return not bool(((scores >= np.asarray(thresholds)) & ~_named(labels, qualifiers)).any())


def _named(labels: Sequence[str], some: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([label in some for label in labels])


def aggregate(record: JobRecord, spec: ModelSpec, scores: Sequence[ClipScores], finished_at: float) -> JobResult:
    """The answer to a job, whose clips the model of `spec` has scored.

    `scores` holds one entry per clip in clip order (window-major). The job's predictions are the mean over all views
    of the activated logits; a window's are the mean over its crops. `finished_at` is in Unix seconds.

    Raises ValueError when the number of scores differs from the number of clips.
    """
    request, decoded = record.request, record.decoded
    views = len(decoded.windows) * decoded.crops
    if len(scores) != views:
        msg = f"job {record.id} has {views} clips, scores of {len(scores)} were given"
        raise ValueError(msg)
    by_view = probabilities(np.array([s.logits for s in scores], dtype=np.float64), spec.activation)
    by_window = by_view.reshape(len(decoded.windows), decoded.crops, -1).mean(axis=1)
    windows = tuple(
        WindowResult(
            start_s=_rounded(window.start_s),
            end_s=_rounded(window.end_s),
            predictions=_predictions(spec, request, by_window[w]),
            attention=_attention(window, scores[w * decoded.crops : (w + 1) * decoded.crops], request.attention),
            abstained=abstains(by_window[w], spec.labels, spec.thresholds, spec.qualifiers),
        )
        for w, window in enumerate(decoded.windows)
    )
    overall = by_view.mean(axis=0)
    return JobResult(
        id=record.id,
        model=ModelRef(name=spec.name, version=spec.version, trained=spec.trained, weights_sha256=spec.weights_sha256),
        coverage=_rounded(decoded.coverage),
        video=decoded.video,
        predictions=_predictions(spec, request, overall),
        windows=windows,
        timings_ms=Timings(
            upload=round(record.upload_ms, 3),
            decode=round(decoded.decode_ms, 3),
            queue=round(max(s.queue_ms for s in scores), 3),
            inference=round(max(s.inference_ms for s in scores), 3),
            total=round(max(0.0, finished_at - record.created_at) * 1000, 3),
        ),
        warnings=(*decoded.warnings, *model_warnings(spec)),
        abstained=abstains(overall, spec.labels, spec.thresholds, spec.qualifiers),
    )


def _predictions(spec: ModelSpec, request: JobRequest, scores: Array) -> tuple[Prediction, ...]:
    return ranked(scores, spec.labels, request.top_k, request.min_score, spec.thresholds, spec.qualifiers)


def most_attended(attention: Sequence[FrameAttention]) -> FrameAttention | None:
    """The frame of a window that counted most; None where the attention is flat and no frame stands out."""
    best = max(attention, key=lambda frame: frame.score, default=None)
    return best if best is not None and best.score * len(attention) >= STANDS_OUT else None


def model_warnings(spec: ModelSpec) -> tuple[AnswerWarning, ...]:
    """Warnings that every answer of this model carries."""
    if spec.trained:
        return ()
    return (
        AnswerWarning(
            code="untrained_model",
            detail=f"Model {spec.name} has random weights. Its labels and attention mean nothing.",
        ),
    )


def _attention(window: SampledWindow, crops: Sequence[ClipScores], detail: str) -> tuple[FrameAttention, ...] | None:
    if detail == "none":
        return None
    score = np.mean([c.temporal_attention for c in crops], axis=0)  # [T]
    by_layer = np.mean([c.layer_attention for c in crops], axis=0)  # [L, T]
    retained = np.mean([c.layer_retention for c in crops], axis=0)  # [L, T]
    layers = detail == "layers"
    return tuple(
        FrameAttention(
            time_s=_rounded(time_s),
            frame=t,
            score=_rounded(score[t]),
            retention=_rounded(retained[-1, t]),
            layer_scores=tuple(map(_rounded, by_layer[:, t])) if layers else None,
            layer_retention=tuple(map(_rounded, retained[:, t])) if layers else None,
        )
        for t, time_s in enumerate(window.times_s)
    )


def _rounded(value: float) -> float:
    return round(float(value), SCORE_DIGITS)
