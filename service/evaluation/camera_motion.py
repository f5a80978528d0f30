"""All that is asked of a camera-motion model: accuracy on made and on real clips, cuts, the reading of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from service.evaluation import cuts
from service.evaluation.camera_paths import RANGES
from service.evaluation.candidates import Candidate, Score, score_all
from service.evaluation.decoded import RealTestSet
from service.evaluation.temporal_sanity import PAIRS, temporal_sanity
from service.model.presets import CAMERA_MOTION_LABELS as LABELS
from service.training.evaluate import Evaluation
from service.training.intervals import Share, wilson

_THIRDS = ("slow", "medium", "fast")


@dataclass(frozen=True)
class Target:
    """A figure that the bundled model must reach."""

    what: str
    bound: float
    value: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


@dataclass(frozen=True)
class TestSet:
    """Clips of one kind with what the model makes of them."""

    clips: Tensor
    result: Evaluation

    @property
    def labels(self) -> Tensor:
        """int64 `(B,)`."""
        return self.result.targets.argmax(1)

    @property
    def hits(self) -> Tensor:
        """bool `(B,)`."""
        return self.result.scores.argmax(1) == self.labels


@dataclass(frozen=True)
class Assessment:
    """The figures, ready for JSON, and the sets they were found on, by name."""

    figures: dict[str, Any]
    sets: dict[str, TestSet]

    @property
    def targets(self) -> list[Target]:
        """What the bundled model is held to, of the figures that there are."""
        found = []
        for name, bound in (("generated", 0.95), ("footage", 0.88)):
            if name in self.figures:
                found.append(Target(f"{name}: top-1", bound, self.figures[name]["top1"]["share"]))
        if "footage" in self.figures:
            worst = min(share["share"] for share in self.figures["footage"]["classes"].values())
            found.append(Target("footage: worst class", 0.75, worst))
        if "unaltered" in self.figures:
            found.append(Target("unaltered: static", 0.80, self.figures["unaltered"]["static"]["share"]))
        for name in self.sets:
            figures = self.figures[name]
            found.append(Target(f"{name}: cuts found", 0.90, figures["cuts"]["all"]["share"]))
            times = figures["temporal_sanity"]
            found.append(Target(f"{name}: one frame repeated is static", 0.90, times["repeated_is_static"]["share"]))
            found.append(
                Target(
                    f"{name}: shuffled frames keep their class",
                    1 / len(LABELS) + 0.10,
                    times["shuffled_keeps_class"]["share"],
                    at_most=True,
                )
            )
            for pair in PAIRS:
                kind = pair[0].partition("_")[0]
                found.append(Target(f"{name}: reversed {kind} swaps", 0.90, times[f"reversed_swaps_{kind}"]["share"]))
        return found


def assess(
    candidate: Candidate,
    generated: tuple[Tensor, Tensor, Tensor],
    generated_cuts: tuple[Tensor, Tensor],
    footage: RealTestSet | None,
    untrained: Score | None,
) -> Assessment:
    """Evaluate on generated clips with their classes and cuts, on many cuts with their positions, on real footage."""
    sets = {"generated": _scored(candidate, *generated)}
    figures: dict[str, Any] = {"model": candidate.name, "weights_sha256": candidate.weights_sha256}
    figures["generated"] = _figures(candidate, sets["generated"])
    figures["generated"]["cuts"] = _cuts(candidate, *generated_cuts, untrained)
    if footage is not None:
        cropped = footage.part(lambda entry: not entry.unaltered)
        sets["footage"] = _scored(candidate, cropped.clips, cropped.labels, cropped.cut)
        figures["footage"] = _figures(candidate, sets["footage"])
        figures["footage"]["speeds"] = _speeds(cropped, sets["footage"].hits)
        there = cropped.cut >= 0
        figures["footage"]["cuts"] = _cuts(candidate, cropped.clips[there], cropped.cut[there], untrained)
        figures["unaltered"] = _unaltered(candidate.score, footage.part(lambda entry: entry.unaltered))
    return Assessment(figures, sets)


def _scored(candidate: Candidate, clips: Tensor, labels: Tensor, cut: Tensor) -> TestSet:
    found = score_all(candidate.score, clips)
    logits = found.logits.float()
    scores = logits.softmax(1) if candidate.activation == "softmax" else logits.sigmoid()
    targets = F.one_hot(labels, len(LABELS)).float()
    peaks = found.temporal_attention.argmax(1)
    return TestSet(clips, Evaluation(scores, targets, False, cut, peaks))


def _figures(candidate: Candidate, tested: TestSet) -> dict[str, Any]:
    hits, labels = tested.hits, tested.labels
    return {
        "top1": wilson(int(hits.sum()), len(hits)),
        "ece": tested.result.figures["ece"],
        "mean_confidence": float(tested.result.scores.amax(1).mean()),
        "classes": {label: _share(hits[labels == i]) for i, label in enumerate(LABELS)},
        "temporal_sanity": temporal_sanity(candidate.score, tested.clips, labels),
    }


def _cuts(candidate: Candidate, clips: Tensor, cut: Tensor, untrained: Score | None) -> dict[str, Any]:
    everywhere, by_position = cuts.localisation(score_all(candidate.score, clips).temporal_attention, cut)
    found: dict[str, Any] = {
        "all": everywhere,
        "positions": by_position,
        "chance": 2 / clips.size(1),
        "signals": cuts.compared(candidate.score, candidate.network, clips, cut),
    }
    if untrained is not None:
        found["untrained"] = cuts.localisation(score_all(untrained, clips).temporal_attention, cut)[0]
    return found


def _speeds(footage: RealTestSet, hits: Tensor) -> dict[str, Share]:
    """Accuracy of each kind of motion in the slow, medium and fast third of its range."""
    found = {}
    for kind, (low, high) in RANGES.items():
        for third, name in enumerate(_THIRDS):
            least, most = (low + (high - low) * (third + end) / 3 for end in (0, 1))
            within = torch.tensor(
                [e.label.partition("_")[0] == kind and least <= e.speed <= most for e in footage.entries]
            )
            unit = "degrees a frame" if kind == "roll" else "% a frame"
            scale = 1 if kind == "roll" else 100
            found[f"{kind}, {name} ({scale * least:.1f} - {scale * most:.1f} {unit})"] = _share(hits[within])
    return found


def _unaltered(score: Score, footage: RealTestSet) -> dict[str, Any]:
    called = score_all(score, footage.clips).logits.argmax(1)
    return {
        "static": _share(called == LABELS.index("static")),
        "called": {label: int((called == i).sum()) for i, label in enumerate(LABELS)},
        "videos": len({entry.file for entry in footage.entries}),
    }


def _share(hits: Tensor) -> Share:
    return wilson(int(hits.sum()), len(hits))


def flattened(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Share | float]:
    """All numbers of nested figures under joined names; a share stays whole."""
    flat: dict[str, Share | float] = {}
    for key, value in figures.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "low" not in value:
            flat |= flattened(value, f"{name}: ")
        elif isinstance(value, list):
            flat |= flattened({str(i): item for i, item in enumerate(value)}, f"{name}: ")
        elif value is not None and not isinstance(value, str):
            flat[name] = value
    return flat
