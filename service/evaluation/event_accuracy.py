"""Events of a model on generated long videos whose events are known, and the rules that suit it best."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.aggregate import aggregate, scored_windows
from service.contracts import ClipScores, Event, EventRules, JobRecord, JobRequest, JobResult, ModelSpec
from service.evaluation.candidates import Candidate, score_all
from service.evaluation.long_videos import write_long_video
from service.evaluation.temporal_figures import Span, f1, figures, merged_windows
from service.label_events import Scored, curves, label_events
from service.transitions import with_transitions
from service.video.clips import decode_file
from service.video.config import VideoLimits

_MANY = 1 << 20
_EDGES, _RELEASES, _SHORTEST_S = (0.35, 0.5, 0.65, 0.8), (0.4, 0.6, 0.8), (0.2, 0.5, 0.8)
_STRICTER = (1.0, 1.25, 1.5, 1.75, 2.0)
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LongVideo:
    """One video as a model saw it, and what is known of it."""

    truth: list[Span]
    scored: Scored
    result: JobResult
    baseline: list[Span]


def judge_long_videos(
    candidate: Candidate, bank: Tensor, videos: int, seconds: float, limits: VideoLimits, seed: int, tell: Tell
) -> list[LongVideo]:
    """`videos` generated over textures uint8 `(M, 3, S, S)`, each of about `seconds`, and what the model says of them.

    Events come from windows half a span apart that keep within shots, the baseline from back-to-back windows.
    """
    spec = _spec_of(candidate)
    limits = replace(limits, max_clips_per_job=_MANY)
    split = JobRequest(windows="all", stride=spec.span_s / 2, split="shots", top_k=1000)
    found = []
    with tempfile.TemporaryDirectory(prefix="vidtr-long-") as scratch:
        for number in range(videos):
            tell("long videos", number, videos)
            path = Path(scratch) / f"{number}.mp4"
            truth = write_long_video(path, seconds, bank, np.random.default_rng((seed, number)))
            spans = [Span(number, event.label, event.start_s, event.end_s) for event in truth]
            result, scored = _classified(candidate, spec, path, split, limits)
            plain, _ = _classified(candidate, spec, path, JobRequest(windows="all", top_k=1000), limits)
            found.append(LongVideo(spans, scored, result, merged_windows(plain.windows, number)))
    return found


def accuracy(videos: Sequence[LongVideo]) -> dict[str, dict[str, float]]:
    """Figures of the events, and of the baseline of merged windows."""
    truth = [span for video in videos for span in video.truth]
    events = [span for number, video in enumerate(videos) for span in _spans(number, video.result.events or ())]
    qualified = [span for span in events if span.label in {true.label for true in truth} | {"shake", "fade"}]
    return {
        "events": figures(truth, qualified),
        "baseline": figures(truth, [span for video in videos for span in video.baseline]),
    }


def calibrated(candidate: Candidate, videos: Sequence[LongVideo], rules: EventRules) -> EventRules:
    """The rules with the highest F1 at an overlap of 0.5 on these videos, by one field after the other."""
    truth = [span for video in videos for span in video.truth]
    known = {span.label for span in truth}

    def value(rules: EventRules) -> float:
        found = [span for number, video in enumerate(videos) for span in _found(candidate, number, video, rules)]
        return f1(truth, [span for span in found if span.label in known], 0.5)

    def best(choices: Sequence[EventRules]) -> EventRules:
        return max(choices, key=value)

    rules = best([rules.model_copy(update={"edge": edge, "release": r}) for edge in _EDGES for r in _RELEASES])
    rules = best([rules.model_copy(update={"shortest_s": seconds}) for seconds in _SHORTEST_S])
    for label, threshold in zip(candidate.labels, candidate.thresholds, strict=True):
        if label in known and label not in rules.transitions:
            stricter = [min(0.95, round(threshold * factor, 4)) for factor in _STRICTER]
            rules = best(
                [rules.model_copy(update={"thresholds": {**rules.thresholds, label: high}}) for high in stricter]
            )
    return rules


def _found(candidate: Candidate, number: int, video: LongVideo, rules: EventRules) -> list[Span]:
    labels, thresholds = candidate.labels, candidate.thresholds
    events = label_events(curves(video.scored), labels, thresholds, rules)
    nowhere = [None] * len(video.scored.windows)
    return _spans(number, with_transitions(events, video.scored, labels, thresholds, rules, nowhere))


def _spans(number: int, events: Sequence[Event]) -> list[Span]:
    return [Span(number, event.label, event.start_s, event.end_s, event.score) for event in events]


def _spec_of(candidate: Candidate) -> ModelSpec:
    return ModelSpec(
        **candidate.clip.model_dump(include=set(type(candidate.clip).model_fields)),
        name="evaluated",
        version="1",
        weights_sha256=candidate.weights_sha256 or "",
        form="evaluated",
        trained=True,
        labels=candidate.labels,
        activation=candidate.activation,
        thresholds=candidate.thresholds,
        qualifiers=candidate.qualifiers,
        events=candidate.events,
        layers=1,
        max_batch_size=1,
    )


def _classified(
    candidate: Candidate, spec: ModelSpec, path: Path, request: JobRequest, limits: VideoLimits
) -> tuple[JobResult, Scored]:
    raw = path.with_suffix(".clips")
    decoded = decode_file(path, raw, spec.clip, request, limits)
    clips = torch.from_numpy(np.fromfile(raw, np.uint8).reshape(-1, *spec.clip_shape))
    output = score_all(candidate.score, clips)
    by_clip = zip(
        output.logits.tolist(),
        output.temporal_attention.tolist(),
        output.layer_attention.tolist(),
        output.layer_retention.tolist(),
        strict=True,
    )
    scores = [
        ClipScores(logits=logits, temporal_attention=attention, layer_attention=layers, layer_retention=retention)
        for logits, attention, layers, retention in by_clip
    ]
    record = JobRecord(
        id="evaluated",
        request=request,
        spec=spec,
        decoded=decoded,
        created_at=0.0,
        enqueued_at=0.0,
        deadline_at=0.0,
        upload_ms=0.0,
    )
    return aggregate(record, spec, scores, 0.0), scored_windows(spec, record, scores)
