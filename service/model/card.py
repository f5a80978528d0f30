"""What a served model needs beside its weights: how clips are made for it and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from service.contracts import Activation, ClipFormat, EventRules, Framing, Precision, Resize, Sampling


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Labels and preprocessing of one model.

    A clip holds every `frame_step`-th frame at `reference_fps` frames a second. Frames are resized until their short
    side has `resize_short_side` pixels, then cropped to the network's size; with `framing="whole"` they are squeezed to
    that size instead. With `clip_format="yuv420"` clips reach the model in 4:2:0, of half the bytes. A label holds
    from its entry of `thresholds` on; only independent scores have them. `qualifiers` are labels with thresholds that
    add to others and are no answer by themselves. `events` says how events are made of scores with thresholds.
    With `embedding` a network of this project also returns what its head reads, of length 1, and with `spatial` where
    its class token looked.
    `trained` is False for random weights, so that an answer never passes for a real one. `precision` is that of the
    served weights and products.

    Raises ValueError naming the field that does not fit.
    """

    labels: tuple[str, ...]
    trained: bool
    description: str
    frame_step: int
    reference_fps: float
    resize_short_side: int
    sampling: Sampling = "time"
    resize: Resize = "swscale_bilinear"
    framing: Framing = "crop"
    clip_format: ClipFormat = "rgb"
    activation: Activation = "softmax"
    thresholds: tuple[float, ...] = ()
    qualifiers: tuple[str, ...] = ()
    events: EventRules | None = None
    embedding: bool = False
    spatial: bool = False
    precision: Precision = "fp32"
    max_batch_size: int = 8

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be given, each once")
        for field in ("frame_step", "reference_fps", "resize_short_side", "max_batch_size"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{field} must be positive, not {getattr(self, field)}")
        if self.thresholds and (
            self.activation != "sigmoid"
            or len(self.thresholds) != len(self.labels)
            or not all(0 < threshold < 1 for threshold in self.thresholds)
        ):
            raise ValueError(
                f"thresholds must be one between 0 and 1 for each label of a sigmoid, not {self.thresholds}"
            )
        if self.qualifiers and not (self.thresholds and set(self.qualifiers) < set(self.labels)):
            raise ValueError(f"qualifiers must be some of the labels, which have thresholds, not {self.qualifiers}")
        if self.events is not None and not self.thresholds:
            raise ValueError("events need thresholds, which the labels do not have")
        for field, choices in (
            ("sampling", get_args(Sampling)),
            ("resize", get_args(Resize)),
            ("framing", get_args(Framing)),
            ("clip_format", get_args(ClipFormat)),
            ("activation", get_args(Activation)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} must be one of {', '.join(choices)}, not {getattr(self, field)!r}")
