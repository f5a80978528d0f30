"""What a caller asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.contracts.wire_types import AttentionDetail, EvidenceKind, ModelName, Split, Windows
from service.wire_model import WireModel


class JobRequest(WireModel):
    """Options of one classification, as the caller gave them."""

    model: ModelName | None = Field(None, description="model to use; the server's default when absent")
    version: str | None = Field(None, pattern=r"^[0-9]{1,18}$", description="model version; the newest when absent")
    top_k: int = Field(5, ge=1, le=1000, description="labels in each list of predictions")
    min_score: float = Field(0.0, ge=0.0, le=1.0, description="labels below this score are left out")
    windows: Windows = Field("auto", description="`auto`, `all` (back to back) or a number of temporal windows")
    stride: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds between the starts of windows with `windows=all`; a model's span when absent",
    )
    split: Split = Field("none", description="`shots` keeps each window within one shot")
    crops: Literal[1, 3] = Field(1, description="spatial crops of each window")
    start: float | None = Field(None, ge=0, allow_inf_nan=False, description="first second of the video to look at")
    end: float | None = Field(None, gt=0, allow_inf_nan=False, description="last second of the video to look at")
    stream: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="number of the video stream to look at, from 0; the default one, else the longest, when absent",
    )
    attention: AttentionDetail = Field("frames", description="how much attention the answer carries")
    evidence: EvidenceKind = Field(
        "none",
        description="`causal` measures what each frame of a window contributes to a label, by leaving frames out",
    )
    evidence_label: str | None = Field(
        None, max_length=256, description="label to measure it for; the first of each window when absent"
    )
    evidence_window: int | None = Field(
        None, ge=0, le=1_000_000, description="number of the window to measure it for, from 0; all windows when absent"
    )
    evidence_orders: int = Field(
        32, ge=2, le=1024, description="random orders to sample where a model has too many frames for all subsets"
    )
    embedding: bool = Field(False, description="whether the answer carries the model's embedding")
    webhook: str | None = Field(None, max_length=2048, description="URL that gets a message when the job has ended")

    @property
    def wants_shots(self) -> bool:
        """Whether shot boundaries are to be looked for."""
        return self.windows == "all" or self.split == "shots"
