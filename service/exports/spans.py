"""What every format writes: the events of an answer, or its shots, as named spans of time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, get_args

from service.contracts import JobResult
from service.errors import NothingToExport
from service.exports.timecode import FrameRate

Kind = Literal["events", "shots"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


@dataclass(frozen=True)
class Span:
    """A stretch of a video, in seconds from its first frame. `end_s` lies at least one frame behind `start_s`."""

    label: str
    start_s: float
    end_s: float
    peak_s: float
    score: float

    @property
    def title(self) -> str:
        """Label and score in one line for people."""
        return f"{self.label.replace('_', ' ')} {self.score:.0%}"


@dataclass(frozen=True)
class NamedResult:
    """An answer, and how the files call its video."""

    name: str
    result: JobResult

    @property
    def title(self) -> str:
        """The name on one line: most formats end a field with the line."""
        return _CONTROL.sub(" ", self.name).strip() or self.result.id

    @property
    def stem(self) -> str:
        """The name without folders and extension, by which data sets call a video."""
        return PurePath(self.title).stem

    @property
    def rate(self) -> FrameRate:
        """The rate at which editors count the frames of the video."""
        return FrameRate.nearest(self.result.video.fps)

    def spans(self, kind: Kind) -> list[Span]:
        """Its events or shots, by their start. Raises NothingToExport where the answer has none of the kind at all."""
        return self._events() if kind == "events" else self._shots()

    def _events(self) -> list[Span]:
        if self.result.events is None:
            model = self.result.model
            detail = f"The answer of model {model.name} version {model.version} has no `events`."
            raise NothingToExport(f"{detail} Classify with `windows=all` and a model with thresholds, or ask for JSON.")
        spans = [self._span(e.label, e.start_s, e.end_s, e.peak_s, e.score) for e in self.result.events]
        return sorted(spans, key=lambda span: (span.start_s, span.end_s))

    def _shots(self) -> list[Span]:
        if self.result.shots is None:
            raise NothingToExport("The answer has no `shots`: they were not looked for. Classify with `windows=all`.")
        spans = []
        for number, shot in enumerate(self.result.shots, 1):
            best = next((p for p in shot.predictions if p.passes is not False), None)
            label, score = (best.label, best.score) if best else (f"shot_{number}", 0.0)
            spans.append(self._span(label, shot.start_s, shot.end_s, shot.key_s, score))
        return spans

    def _span(self, label: str, start_s: float, end_s: float, peak_s: float, score: float) -> Span:
        # No format but JSON has instants: a cut lasts one frame there.
        return Span(_CONTROL.sub(" ", label), start_s, max(end_s, start_s + self.rate.frame_s), peak_s, score)
