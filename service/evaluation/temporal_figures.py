"""How well events of a video agree with what is known of it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from service.contracts import WindowResult

INSTANT_S = 0.1
"""Seconds by which an instant may be beside its place."""


@dataclass(frozen=True)
class Span:
    """A label from `start_s` to `end_s`, in the video of that number; an instant has equal ends."""

    video: int
    label: str
    start_s: float
    end_s: float
    score: float = 1.0

    @property
    def instant(self) -> bool:
        """Whether it has no length."""
        return self.end_s == self.start_s


def overlap(one: Span, other: Span) -> float:
    """Intersection over union, 0 to 1; of instants 1 where they are as near as they may be."""
    if one.instant or other.instant:
        near = one.instant and other.instant and abs(one.start_s - other.start_s) <= INSTANT_S
        return 1.0 if near else 0.0
    shared = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    whole = max(one.end_s, other.end_s) - min(one.start_s, other.start_s)
    return max(0.0, shared / whole)


def matches(truth: Sequence[Span], found: Sequence[Span], least: float) -> list[tuple[Span, Span | None]]:
    """What was found, best score first, each with the true span that it is: each true span is found once."""
    left: defaultdict[tuple[int, str], list[Span]] = defaultdict(list)
    for span in truth:
        left[span.video, span.label].append(span)
    result: list[tuple[Span, Span | None]] = []
    for span in sorted(found, key=lambda span: -span.score):
        of_label = left[span.video, span.label]
        best = max(of_label, key=lambda true: overlap(true, span), default=None)
        if best is None or overlap(best, span) < least:
            result.append((span, None))
        else:
            of_label.remove(best)
            result.append((span, best))
    return result


def f1(truth: Sequence[Span], found: Sequence[Span], least: float) -> float:
    """F1 of all labels together."""
    hits = sum(true is not None for _, true in matches(truth, found, least))
    return 2 * hits / max(1, len(truth) + len(found))


def mean_average_precision(truth: Sequence[Span], found: Sequence[Span], least: float) -> float:
    """Mean over the labels of the truth of the area under precision and recall, as ActivityNet counts it."""
    labels = sorted({span.label for span in truth})
    return sum(_average_precision(truth, found, label, least) for label in labels) / max(1, len(labels))


def _average_precision(truth: Sequence[Span], found: Sequence[Span], label: str, least: float) -> float:
    known = [span for span in truth if span.label == label]
    said = matches(known, [span for span in found if span.label == label], least)
    precisions, hits = [], 0
    for rank, (_, true) in enumerate(said, start=1):
        hits += true is not None
        precisions.append((hits / rank, true is not None))
    best, area = 0.0, 0.0
    for precision, right in reversed(precisions):
        best = max(best, precision)
        area += best * right
    return area / len(known)


def boundary_errors(truth: Sequence[Span], found: Sequence[Span], least: float = 0.5) -> list[float]:
    """Seconds by which the ends of spans that are no instants lie beside the true ones."""
    pairs = [(span, true) for span, true in matches(truth, found, least) if true is not None and not true.instant]
    return [abs(a - b) for span, true in pairs for a, b in ((span.start_s, true.start_s), (span.end_s, true.end_s))]


def merged_windows(windows: Sequence[WindowResult], video: int) -> list[Span]:
    """The baseline: successive windows with the same best label are one event."""
    spans: list[Span] = []
    for window in windows:
        best = window.predictions[0] if window.predictions and not window.abstained else None
        if best is None:
            continue
        last = spans[-1] if spans else None
        if last is not None and last.label == best.label and window.start_s <= last.end_s + 1e-3:
            spans[-1] = Span(video, last.label, last.start_s, window.end_s, max(last.score, best.score))
        else:
            spans.append(Span(video, best.label, window.start_s, window.end_s, best.score))
    return spans


def figures(truth: Sequence[Span], found: Sequence[Span]) -> dict[str, float]:
    """F1 and mean average precision at several overlaps, the median error of ends, and the share of cuts found."""
    errors = boundary_errors(truth, found)
    cuts = [span for span in truth if span.instant]
    hits = sum(true is not None for _, true in matches(cuts, [span for span in found if span.instant], 0.5))
    result = {f"event_f1_{least}": f1(truth, found, least) for least in (0.3, 0.5, 0.7)}
    result |= {f"temporal_map_{least}": mean_average_precision(truth, found, least) for least in (0.3, 0.5, 0.7)}
    result["boundary_error_s"] = median(errors) if errors else float("nan")
    result["cuts_found"] = hits / len(cuts) if cuts else float("nan")
    return result
