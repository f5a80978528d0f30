"""How far the attention of a model says which frames its labels rest on, as it was measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.wire_model import WireModel


class TimeNeed(WireModel):
    """Mean scores of a label where the frames are no longer in time, over the clips whose first label it is."""

    label: str
    clips: int = Field(ge=1)
    score: float = Field(ge=0, le=1, description="of the clips as they are")
    still: float = Field(ge=0, le=1, description="where one frame stands still")
    reversed: float = Field(ge=0, le=1, description="of the clips backwards")
    shuffled: float = Field(ge=0, le=1, description="with their frames in another order")


class Faithfulness(WireModel):
    """How far attention says which frames a label rests on, beside their Shapley values and random orders.

    A gap is what an order of frames reaches: 1 is that of Shapley values, 0 what random orders reach. Errors are half
    the width of an interval of 95 %.
    """

    source: Literal["videos", "generated"] = Field(description="whether the clips are of real videos or were generated")
    seen: int = Field(ge=2, description="clips that were looked at")
    clips: int = Field(ge=2, description="those of them whose first label rests on motion: only they are measured")
    deletion_gap: float = Field(allow_inf_nan=False, description="leaving out the most attended frames first")
    deletion_gap_error: float = Field(ge=0, allow_inf_nan=False)
    insertion_gap: float = Field(allow_inf_nan=False, description="adding the most attended frames first")
    insertion_gap_error: float = Field(ge=0, allow_inf_nan=False)
    rank_correlation: float = Field(ge=-1, le=1, description="Spearman's, with Shapley values")
    rank_correlation_error: float = Field(ge=0, allow_inf_nan=False)
    same_top_frame: float = Field(ge=0, le=1, description="share of clips whose most attended frame is worth most")
    stability: float = Field(ge=-1, le=1, description="rank correlation with the attention to the same clip with noise")
    needs_time: tuple[TimeNeed, ...] = Field((), description="labels that were the first of a clip, in their order")

    @property
    def above_chance(self) -> bool:
        """Whether leaving out the most attended frames first is surely better than leaving out any."""
        return self.deletion_gap > self.deletion_gap_error

    @property
    def in_words(self) -> str:
        """One sentence for who reads the attention of an answer."""
        clips = f"{self.clips} {'clips of real videos' if self.source == 'videos' else 'generated clips'}"
        said = (
            f"Attention of this model: {self.deletion_gap:.0%} (± {self.deletion_gap_error:.0%}) of what is attainable "
            f"in telling which frames a label rests on, measured on {clips}"
        )
        return f"{said}." if self.above_chance else f"{said}: no better than frames in random order."
