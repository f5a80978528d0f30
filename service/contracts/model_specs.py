"""What a served model needs and means."""

from __future__ import annotations

import math

from pydantic import Field

from service.contracts.attention_measures import Faithfulness
from service.contracts.wire_types import (
    SCHEMA_VERSION,
    Activation,
    Arithmetic,
    ClipFormat,
    Framing,
    ModelName,
    Precision,
    Resize,
    Sampling,
)
from service.moments import EventRules
from service.wire_model import WireModel


def output_shapes(
    labels: int, frames: int, layers: int, embedding: int, grid: tuple[int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """The tensors that a model returns, in their order, with the shape that each has for one clip.

    Without layers there is no attention, without a `grid` of rows and columns none in space, and without numbers no
    embedding.
    """
    by_layer = (layers, frames)
    attention = {"temporal_attention": (frames,), "layer_attention": by_layer, "layer_retention": by_layer}
    return {
        "logits": (labels,),
        **(attention if layers else {}),
        **({"spatial_attention": (frames, *grid)} if grid else {}),
        **({"embedding": (embedding,)} if embedding else {}),
    }


class ClipSpec(WireModel):
    """How the clips of a model are made of a video: all that decoding needs to know of it."""

    frames: int = Field(gt=0, description="T, frames in a clip")
    frame_step: int = Field(gt=0, description="distance of sampled frames, in frames of the reference rate")
    reference_fps: float = Field(gt=0)
    sampling: Sampling
    height: int = Field(gt=0, description="H, pixels")
    width: int = Field(gt=0, description="W, pixels")
    resize_short_side: int = Field(gt=0, description="short side after resizing and before cropping, pixels")
    resize: Resize
    framing: Framing = Field(
        "crop", description="`crop` of the resized picture, or the `whole` picture squeezed to H x W"
    )
    clip_format: ClipFormat = Field(
        "rgb", description="how a picture travels: `rgb`, or 4:2:0 in BT.601 with limited range, half the bytes"
    )

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """`[T, H, W, 3]` of one clip in RGB, `[T, 3H/2, W, 1]` in 4:2:0: a picture's Y, then its U, then its V."""
        if self.clip_format == "yuv420":
            return (self.frames, self.height * 3 // 2, self.width, 1)
        return (self.frames, self.height, self.width, 3)

    @property
    def clip_bytes(self) -> int:
        """Bytes of one uint8 clip."""
        return math.prod(self.clip_shape)

    @property
    def odd_sizes(self) -> str | None:
        """The sizes that 4:2:0 cannot have, which halves them; None where all fit the format."""
        sizes = {name: getattr(self, name) for name in ("height", "width", "resize_short_side")}
        odd = [f"{name} {size}" for name, size in sizes.items() if size % 2]
        return ", ".join(odd) if odd and self.clip_format == "yuv420" else None

    @property
    def span_s(self) -> float:
        """Seconds of video that one window covers."""
        return self.frames * self.frame_step / self.reference_fps


class JobModel(WireModel):
    """The model of a job. Labels and thresholds are those that the worker serves which scores: they go with weights."""

    name: ModelName
    version: str
    weights_sha256: str = Field(description="SHA-256 of this version's model.pt")
    route: str = Field("", description="where its workers look for clips; empty where they know only its name")


class ModelSpec(ClipSpec, JobModel):
    """What a served model needs and means, read from its `config.pbtxt` (see `service.inference.spec`).

    It extends `ClipSpec` instead of holding one, because every release reads these fields flat from Redis. Code that
    makes clips takes a `ClipSpec`, and `clip` is one.
    """

    schema_version: int = SCHEMA_VERSION
    description: str = ""
    form: str = Field(description="network family and form, for example `cvidtr_paper`")
    trained: bool
    labels: tuple[str, ...] = Field(min_length=1)
    activation: Activation
    thresholds: tuple[float, ...] = Field(
        (), description="score of each label from which on it holds; empty where the model gives none"
    )
    qualifiers: tuple[str, ...] = Field(
        (), description="labels that only add to others, such as how a camera is held: by themselves they are no answer"
    )
    events: EventRules = Field(EventRules(), description="how events are made of the scores of windows")
    layers: int = Field(ge=0, description="L, rows of layer_attention and layer_retention; 0 without attention")
    spatial_grid: tuple[int, int] | None = Field(
        None, description="rows and columns of its attention in space; absent where the model gives none"
    )
    embedding: int = Field(0, ge=0, description="D, numbers of an embedding; 0 where the model gives none")
    faithfulness: Faithfulness | None = Field(
        None, description="how far its attention says what labels rest on; absent where it was not measured"
    )
    max_batch_size: int = Field(gt=0, description="clips in one inference call")
    precision: Precision = Field("fp32", description="number format of the exported weights and products")
    arithmetic: Arithmetic | None = Field(
        None, description="number format that the engine computes in, where it is not `precision`"
    )

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The tensors that the model returns, in their order, with the shape that each has for one clip."""
        return output_shapes(len(self.labels), self.frames, self.layers, self.embedding, self.spatial_grid)

    @property
    def spatial_cells(self) -> int:
        """Numbers of the attention in space of one clip; 0 where the model gives none."""
        return self.frames * math.prod(self.spatial_grid) if self.spatial_grid else 0

    @property
    def computed_in(self) -> Arithmetic:
        """The number format that the engine computes in."""
        return self.arithmetic or self.precision

    @property
    def clip(self) -> ClipSpec:
        """What decoding needs, without the labels and all else."""
        return ClipSpec.model_construct(**{name: getattr(self, name) for name in ClipSpec.model_fields})

    @property
    def job_model(self) -> JobModel:
        """What a job keeps of it."""
        return JobModel.model_construct(**{name: getattr(self, name) for name in JobModel.model_fields})
