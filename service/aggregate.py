"""Clip scores to a job's answer. Pure: no clock, no I/O; used by the worker, the command line and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service import __version__
from service.causal_evidence import window_evidence
from service.contracts import (
    Activation,
    AnswerWarning,
    ClipScores,
    DecodedVideo,
    Event,
    EvidenceCost,
    EvidencePlan,
    FrameAttention,
    JobRecord,
    JobRequest,
    JobResult,
    ModelRef,
    ModelSpec,
    Prediction,
    Provenance,
    SampledWindow,
    Timings,
    WindowEvidence,
    WindowResult,
)
from service.errors import InvalidOption
from service.label_events import Scored, curves, label_events
from service.overview import shots_of, summary_of
from service.spatial_views import spatial_views
from service.transitions import with_transitions

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
    order = np.lexsort((-scores, passes & _named(labels, qualifiers), ~passes))[:top_k].tolist()
    best = {i: float(scores[i]) for i in order}
    return tuple(
        Prediction(
            label=labels[i],
            index=i,
            score=round(score, SCORE_DIGITS),
            threshold=thresholds[i] if thresholds else None,
            passes=bool(passes[i]) if thresholds else None,
        )
        for i, score in best.items()
        if score >= min_score
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

    `scores` holds one entry per clip in clip order (window-major), and then those of the job's evidence. The
    job's predictions are the mean over all views of the activated logits; a window's are the mean over its crops.
    `finished_at` is in Unix seconds.

    Raises ValueError when the number of scores differs from the number of clips.
    """
    request, decoded = record.request, record.decoded
    if len(scores) != record.units:
        msg = f"job {record.id} has {record.units} clips, scores of {len(scores)} were given"
        raise ValueError(msg)
    every, scores = scores, scores[: decoded.clip_count]
    by_view = probabilities(np.array([s.logits for s in scores], dtype=np.float64), spec.activation)
    by_window = by_view.reshape(len(decoded.windows), decoded.crops, -1).mean(axis=1)
    windows = tuple(
        _window(spec, request, decoded, w, by_window[w], scores[w * decoded.crops : (w + 1) * decoded.crops])
        for w in range(len(decoded.windows))
    )
    if record.evidence is not None:
        causes = _causes(spec, record, record.evidence, by_window, every)
        windows = tuple(window.model_copy(update={"evidence": causes.get(w)}) for w, window in enumerate(windows))
    overall = by_view.mean(axis=0)
    scored = _scored(request, decoded, by_window)
    events = _events(spec, scored, windows) if _has_events(spec, request, decoded) else None
    return JobResult(
        id=record.id,
        model=ModelRef(
            name=spec.name,
            version=spec.version,
            trained=spec.trained,
            weights_sha256=spec.weights_sha256,
            arithmetic=spec.computed_in,
        ),
        coverage=_rounded(decoded.coverage),
        video=decoded.video,
        # The mean over one view is that view.
        predictions=windows[0].predictions if len(by_view) == 1 else _predictions(spec, request, overall),
        windows=windows,
        timings_ms=Timings(
            upload=round(record.upload_ms, 3),
            decode=round(decoded.decode_ms, 3),
            queue=round(max(s.queue_ms for s in scores), 3),
            inference=round(max(s.inference_ms for s in scores), 3),
            total=round(max(0.0, finished_at - record.created_at) * 1000, 3),
        ),
        provenance=Provenance(
            options=request.model_copy(update={"webhook": None}),
            video_sha256=record.video_sha256 or None,
            release=__version__,
        ),
        source=decoded.source,
        warnings=(*decoded.warnings, *model_warnings(spec)),
        abstained=abstains(overall, spec.labels, spec.thresholds, spec.qualifiers),
        events=events,
        shots=None if decoded.boundaries is None else shots_of(scored, partial(_predictions, spec, request)),
        summary=None if events is None else summary_of(scored, events, spec.span_s, spec.qualifiers),
        embedding=_embedding([window.embedding for window in windows if window.embedding is not None]),
        evidence_cost=_cost(windows),
    )


def _causes(
    spec: ModelSpec, record: JobRecord, planned: EvidencePlan, by_window: Array, scores: Sequence[ClipScores]
) -> dict[int, WindowEvidence]:
    """The evidence of windows by their number. `scores` has whole views, then a row of the masked ones for each set."""
    windows, crops, masked = record.decoded.windows, record.decoded.crops, record.masked_views
    whole_count = record.decoded.clip_count
    logits = np.array([one.logits for one in scores[whole_count:]], dtype=np.float64)
    by_set = probabilities(logits.reshape(planned.masks, len(masked) // crops, crops, -1), spec.activation).mean(axis=2)
    found = {}
    for place in range(by_set.shape[1]):
        w = masked.start // crops + place
        index = evidence_index(spec, record.request, by_window[w])
        own = [one for number, one in enumerate(scores) if record.view_of(number)[0] // crops == w]
        found[w] = window_evidence(
            planned, windows[w], spec.labels[index], by_window[w, index], by_set[:, place, index], own
        )
    return found


def evidence_index(spec: ModelSpec, request: JobRequest, scores: Array) -> int:
    """The label that evidence is for: the one that is named, or the first of a window with scores `[K]`."""
    # The labels of a worker may have been renamed since the api looked: the answer says which one it is.
    if request.evidence_label in spec.labels:
        return spec.labels.index(request.evidence_label)
    [first] = ranked(scores, spec.labels, 1, 0.0, spec.thresholds, spec.qualifiers)
    return first.index


def _cost(windows: Sequence[WindowResult]) -> EvidenceCost | None:
    found = [window.evidence for window in windows if window.evidence is not None]
    if not found:
        return None
    return EvidenceCost(
        forwards=sum(one.forwards for one in found), engine_ms=round(sum(one.engine_ms for one in found), 3)
    )


def window_result(
    spec: ModelSpec, request: JobRequest, decoded: DecodedVideo, number: int, scores: Sequence[ClipScores]
) -> WindowResult:
    """The answer for one window of a video, whose crops have these scores: that of the answer to the whole job."""
    by_crop = probabilities(np.array([s.logits for s in scores], dtype=np.float64), spec.activation)
    return _window(spec, request, decoded, number, by_crop.mean(axis=0), scores)


def _window(
    spec: ModelSpec,
    request: JobRequest,
    decoded: DecodedVideo,
    number: int,
    mean: Array,
    scores: Sequence[ClipScores],
) -> WindowResult:
    window = decoded.windows[number]
    return WindowResult(
        start_s=_rounded(window.start_s),
        end_s=_rounded(window.end_s),
        predictions=_predictions(spec, request, mean),
        attention=_attention(window, scores, request.attention),
        spatial_attention=spatial_views(spec, decoded, scores) if request.attention == "spatial" else None,
        abstained=abstains(mean, spec.labels, spec.thresholds, spec.qualifiers),
        embedding=_embedding([one.embedding for one in scores if one.embedding]) if request.embedding else None,
    )


def _embedding(parts: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
    """The mean of embeddings `[D]`, of length 1; zeros where they cancel each other out, None without any."""
    if not parts:
        return None
    mean = np.mean(np.asarray(parts, dtype=np.float64), axis=0)
    length = float(np.linalg.norm(mean))
    return tuple(_rounded(value) for value in (mean / length if length else mean))


def check_embedding(spec: ModelSpec, request: JobRequest) -> None:
    """Raises InvalidOption where an embedding is asked for of a model that gives none."""
    if request.embedding and not spec.embedding:
        raise InvalidOption(
            f"`embedding` must be false for model {spec.name!r} in version {spec.version}, which gives no embedding. "
            "`GET /v1/models` says which models do.",
            limit="false",
            actual="true",
        )


def _has_events(spec: ModelSpec, request: JobRequest, decoded: DecodedVideo) -> bool:
    return bool(spec.thresholds) and (request.windows == "all" or len(decoded.windows) > 1)


def scored_windows(spec: ModelSpec, record: JobRecord, scores: Sequence[ClipScores]) -> Scored:
    """The windows of a job with the scores that its events are made of; `scores` as in `aggregate`."""
    by_view = probabilities(np.array([s.logits for s in scores], dtype=np.float64), spec.activation)
    by_window = by_view.reshape(len(record.decoded.windows), record.decoded.crops, -1).mean(axis=1)
    return _scored(record.request, record.decoded, by_window)


def _scored(request: JobRequest, decoded: DecodedVideo, by_window: Array) -> Scored:
    duration_s = decoded.video.duration_s
    start_s = request.start or 0.0
    return Scored(
        windows=[(window.start_s, window.end_s) for window in decoded.windows],
        scores=by_window,
        part=(start_s, max(start_s, duration_s if request.end is None else min(request.end, duration_s))),
        boundaries=decoded.boundaries,
        split=request.split == "shots",
    )


def _events(spec: ModelSpec, scored: Scored, windows: Sequence[WindowResult]) -> tuple[Event, ...]:
    found = label_events(curves(scored), spec.labels, spec.thresholds, spec.events)
    places_s = [_cut_place(window.attention or ()) for window in windows]
    return tuple(with_transitions(found, scored, spec.labels, spec.thresholds, spec.events, places_s))


def _cut_place(attention: Sequence[FrameAttention]) -> float | None:
    """Seconds between the frame that counted most and the one beside it that counted more."""
    if len(attention) < 2:
        return None
    peak = max(range(len(attention)), key=lambda slot: attention[slot].score)
    beside = [slot for slot in (peak - 1, peak + 1) if 0 <= slot < len(attention)]
    other = max(beside, key=lambda slot: attention[slot].score)
    return (attention[peak].time_s + attention[other].time_s) / 2


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
    if detail == "none" or not crops[0].temporal_attention:
        return None
    score = np.mean([c.temporal_attention for c in crops], axis=0).tolist()  # [T]
    by_layer = np.mean([c.layer_attention for c in crops], axis=0).T.tolist()  # [T, L]
    retained = np.mean([c.layer_retention for c in crops], axis=0).T.tolist()  # [T, L]
    layers = detail in ("layers", "spatial")
    return tuple(
        FrameAttention(
            time_s=_rounded(time_s),
            frame=t,
            score=_rounded(score[t]),
            retention=_rounded(retained[t][-1]),
            layer_scores=tuple(map(_rounded, by_layer[t])) if layers else None,
            layer_retention=tuple(map(_rounded, retained[t])) if layers else None,
        )
        for t, time_s in enumerate(window.times_s)
    )


def _rounded(value: float) -> float:
    return round(float(value), SCORE_DIGITS)
