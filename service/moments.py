"""What an answer says about the course of a video: labels with their scores, events, shots and shares of its duration.

Times are seconds from the first presented frame. `service.contracts` passes these nouns on with all others.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.wire_model import WireModel

Transition = Literal["start", "cut", "dissolve"]


class Prediction(WireModel):
    """One label with its score."""

    label: str
    index: int
    score: float
    threshold: float | None = Field(
        None, description="score from which on the label holds; absent where the model gives none"
    )
    passes: bool | None = Field(
        None, description="whether the label holds: its score is at least its threshold; absent without one"
    )


class EventRules(WireModel):
    """How events are made of the scores of a model's windows: the parameter `events` of its configuration."""

    thresholds: dict[str, float] = Field(
        {}, description="score that an event of a label reaches; the label's threshold where it is not named"
    )
    release: float = Field(0.6, gt=0, le=1, description="share of its threshold down to which an event goes on")
    edge: float = Field(
        0.5, gt=0, lt=1, description="share of its highest score at which an event begins and ends between two windows"
    )
    smoothing_s: float = Field(0.0, ge=0, description="seconds over which scores are averaged; 0 leaves them")
    shortest_s: float = Field(0.2, ge=0, description="seconds that an event lasts at least")
    shortest: dict[str, float] = Field({}, description="the same for some labels")
    transitions: dict[str, Literal["cut", "dissolve"]] = Field(
        {}, description="labels that name a shot boundary; a `cut` is an instant"
    )


class Event(WireModel):
    """A stretch of the video in which a label holds. An instant, such as a cut, has one time for all three."""

    label: str
    index: int
    start_s: float
    end_s: float
    peak_s: float = Field(description="time at which the label's score is highest")
    score: float = Field(description="the label's highest score in the event")


class ShotBoundary(WireModel):
    """Where one shot passes into the next."""

    start_s: float = Field(description="the last time that shows nothing of the next shot; of a cut as `end_s`")
    end_s: float = Field(description="the first time that shows only the next shot: of a cut that of its first frame")
    transition: Literal["cut", "dissolve"]
    change: float = Field(
        1.0, description="how much the pictures on both sides differ: 0 if not at all, about 1 if entirely"
    )

    @property
    def middle_s(self) -> float:
        """Where the next shot begins."""
        return (self.start_s + self.end_s) / 2


class Shot(WireModel):
    """What one camera shows without a break."""

    start_s: float
    end_s: float
    key_s: float = Field(description="time of the frame that stands for the shot")
    transition: Transition = Field(description="how the shot begins: the first one with the `start` of the range")
    predictions: tuple[Prediction, ...]


class LabelShare(WireModel):
    """How much of the video a label holds for."""

    label: str
    index: int
    duration_s: float = Field(description="seconds in events of the label; 0 where they are instants")
    share: float = Field(description="`duration_s` as a share, 0 to 1, of the range that was asked for")
    events: int = Field(description="how many events the label has")
    qualifier: bool = Field(False, description="whether the label is no answer alone; such shares come last")


class VideoSummary(WireModel):
    """The headline of an answer."""

    basis: Literal["mean", "events"] = Field(
        description="what speaks for the whole video: `predictions`, the `mean` of all windows, or `shares` of `events`"
    )
    shares: tuple[LabelShare, ...] = Field((), description="labels with events, the largest share first")
    unlabeled_share: float = Field(0.0, description="share, 0 to 1, of the range in which no label holds")
