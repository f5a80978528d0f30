"""Whether an answer holds: what it says beside what the same model finds in the same video today. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from service.contracts import JobRequest, JobResult, Prediction

TOLERANCE = 1e-3
"""Scores are told apart from there on: machines and batches round the last digits otherwise."""
ALL_LABELS = 1000
# What belongs to one run: its name and speed, how much had to be decoded for it, and which of several sets of frames
# that keep a score alike was named, and who has signed it.
_OF_A_RUN = {
    "id",
    "status",
    "timings_ms",
    "engine_ms",
    "source",
    "provenance",
    "frames_decoded",
    "warnings",
    "enough",
    "signature",
}
# What an answer of an earlier release leaves open.
_OF_LATER_RELEASES = {"arithmetic"}


class Difference(NamedTuple):
    """One place of an answer that does not hold."""

    where: str
    """such as `windows[2].predictions[pan_left].score`"""
    answered: Any
    """None where the answer lacks what was found"""
    computed: Any
    """None where it was not found"""


def unabridged(options: JobRequest) -> JobRequest:
    """The options that let an answer with `options` be checked: a label that was changed may belong below its list."""
    return options.model_copy(update={"top_k": ALL_LABELS, "min_score": 0.0})


def differences(
    answered: JobResult, computed: JobResult, options: JobRequest, tolerance: float = TOLERANCE
) -> list[Difference]:
    """Where an answer with `options` differs by more than `tolerance` from one that was `computed` later.

    The later one lists all labels, as with `unabridged` options. Two labels may change places, or a label its side of
    a threshold, where their scores leave that open.
    """
    found = _Comparison(options.top_k, options.min_score, tolerance).compared(
        "",
        answered.model_dump(mode="json", exclude_none=True),
        computed.model_dump(mode="json", exclude_none=True),
    )
    open_ended = any(_on_the_edge(prediction, tolerance) for prediction in _predictions(computed))
    return [one for one in found if not (open_ended and _decided(one.where))]


def _predictions(result: JobResult) -> Iterator[Prediction]:
    yield from result.predictions
    for window in result.windows:
        yield from window.predictions


def _on_the_edge(prediction: Prediction, tolerance: float) -> bool:
    return prediction.threshold is not None and abs(prediction.score - prediction.threshold) <= tolerance


def _decided(where: str) -> bool:
    """Whether this is what follows from a label that passes or does not."""
    return where.endswith((".passes", "abstained", "their order")) or where.startswith(("events", "shots", "summary"))


class _Comparison(NamedTuple):
    top_k: int
    min_score: float
    tolerance: float

    def compared(self, where: str, answered: Any, computed: Any) -> Iterator[Difference]:
        if isinstance(answered, dict) and isinstance(computed, dict):
            for name in dict.fromkeys((*answered, *computed)):
                if name not in _OF_A_RUN and not (name in _OF_LATER_RELEASES and name not in answered):
                    place = f"{where}.{name}" if where else name
                    yield from self.compared(place, answered.get(name), computed.get(name))
        elif isinstance(answered, list) and isinstance(computed, list):
            lists = self._predictions if where.endswith("predictions") else self._lists
            yield from lists(where, answered, computed)
        elif not self._equal(answered, computed):
            yield Difference(where, answered, computed)

    def _equal(self, answered: Any, computed: Any) -> bool:
        if _is_number(answered) and _is_number(computed):
            return self._near(answered, computed)
        return bool(answered == computed)

    def _near(self, one: float, other: float) -> bool:
        return abs(one - other) <= self.tolerance

    def _near_any(self, score: float, *bounds: float) -> bool:
        return any(self._near(score, bound) for bound in bounds)

    def _lists(self, where: str, answered: Sequence[Any], computed: Sequence[Any]) -> Iterator[Difference]:
        if len(answered) != len(computed):
            yield Difference(f"{where}, their number", len(answered), len(computed))
            return
        for place, (one, other) in enumerate(zip(answered, computed, strict=True)):
            yield from self.compared(f"{where}[{place}]", one, other)

    def _predictions(
        self, where: str, answered: Sequence[dict[str, Any]], computed: Sequence[dict[str, Any]]
    ) -> Iterator[Difference]:
        """Some labels, best first, beside all of them."""
        found = {one["label"]: one for one in computed}
        listed = dict.fromkeys(one["label"] for one in computed[: self.top_k] if one["score"] >= self.min_score)
        said = {one["label"]: one for one in answered}
        for label, one in said.items():
            yield from self.compared(f"{where}[{label}]", one, found.get(label))
        if len(said) != len(answered):
            yield Difference(f"{where}, their number", len(answered), len(listed))
        # Of labels whose scores are as near as that to where the list ends, either may be in it.
        last, next_one = (computed[at]["score"] if at < len(computed) else 0.0 for at in (self.top_k - 1, self.top_k))
        for label in (label for label in said if label in found and label not in listed):
            if not self._near_any(score := found[label]["score"], last, self.min_score):
                yield Difference(f"{where}[{label}]", score, None)
        for label in (label for label in listed if label not in said):
            if not self._near_any(score := found[label]["score"], next_one, self.min_score):
                yield Difference(f"{where}[{label}]", None, score)
        yield from self._order(where, [label for label in said if label in found], found)

    def _order(self, where: str, said: Sequence[str], found: dict[str, dict[str, Any]]) -> Iterator[Difference]:
        place = {label: at for at, label in enumerate(found)}
        for first, second in itertools.pairwise(said):
            if place[first] > place[second] and not self._near(found[first]["score"], found[second]["score"]):
                yield Difference(f"{where}, their order", f"{first}, {second}", f"{second}, {first}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
