"""What has to be said of a network from elsewhere before it can be served: its clips, its labels, its outputs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.contracts import Activation, Framing, Resize, Sampling
from service.model.card import ModelCard
from service.model.triton_config import ForeignNetwork

Layout = Literal["NCTHW", "NTCHW", "NTHWC"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
Numbers = Literal["float32", "uint8"]

# Of the service's own layout, NTHWC, the axes in the order of the other.
ORDERS: dict[Layout, tuple[int, ...]] = {
    "NCTHW": (0, 4, 1, 2, 3),
    "NTCHW": (0, 1, 4, 2, 3),
    "NTHWC": (0, 1, 2, 3, 4),
}


class ForeignModelError(ValueError):
    """A network is not what was said of it; the message names both."""


class Description(BaseModel):
    """A network from elsewhere.

    It gets `(value / scale - mean) / std` of each color in float32, or the values 0 to 255 themselves in uint8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] = Field(min_length=1, description="in the order of the logits")
    frames: int = Field(gt=0, description="T, frames of a clip")
    height: int = Field(gt=0, description="H, pixels")
    width: int = Field(gt=0, description="W, pixels")
    layout: Layout = "NCTHW"
    numbers: Numbers = "float32"
    scale: float = Field(255.0, gt=0, allow_inf_nan=False)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    frame_step: int = Field(4, gt=0)
    reference_fps: float = Field(30.0, gt=0, allow_inf_nan=False)
    sampling: Sampling = "time"
    resize_short_side: int = Field(gt=0)
    resize: Resize = "swscale_bilinear"
    framing: Framing = "crop"
    activation: Activation = "softmax"
    thresholds: tuple[float, ...] = ()
    logits: int | str = 0
    embedding: int | str | None = None
    form: str = "foreign"
    description: str = ""
    trained: bool = True
    max_batch_size: int = Field(8, gt=0)

    @field_validator("std")
    @classmethod
    def _divides(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError(f"must be above 0, not {min(std):g}")
        return std

    @model_validator(mode="after")
    def _fits(self) -> Description:
        if self.resize_short_side < min(self.height, self.width):
            raise ValueError(
                f"short_side must be at least {min(self.height, self.width)}, the short side of the clips, "
                f"not {self.resize_short_side}"
            )
        if self.embedding is not None and self.embedding == self.logits:
            raise ValueError(f"embedding and logits must be two outputs, not both {self.logits!r}")
        return self

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """`[T, H, W, 3]` of the uint8 clips that the service makes."""
        return (self.frames, self.height, self.width, 3)

    def input_shape(self, batch: int, layout: Layout | None = None) -> tuple[int, ...]:
        """What the network gets of a batch of clips, in its layout or another."""
        shape = (batch, *self.clip_shape)
        return tuple(shape[axis] for axis in ORDERS[layout or self.layout])

    @property
    def card(self) -> ModelCard:
        """What stands in the configuration. Raises ForeignModelError where labels or thresholds do not fit."""
        try:
            return ModelCard(**{name: getattr(self, name) for name in _OF_CARD})
        except ValueError as error:
            raise ForeignModelError(str(error)) from None

    def network(self, embedding: int, backend: Literal["pytorch", "onnxruntime"]) -> ForeignNetwork:
        """What a configuration says of the network, which returns so many numbers of an embedding."""
        return ForeignNetwork(
            form=self.form,
            frames=self.frames,
            height=self.height,
            width=self.width,
            classes=len(self.labels),
            embedding=embedding,
            backend=backend,
        )


_OF_CARD = (
    *("labels", "trained", "description", "frame_step", "reference_fps", "resize_short_side", "sampling"),
    *("resize", "framing", "activation", "thresholds", "max_batch_size"),
)
_SPELLED = {"short_side": "resize_short_side", "fps": "reference_fps", "dtype": "numbers"}
_SIZE = "'SIDE' or 'HEIGHTxWIDTH' in pixels"


def read_description(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises ForeignModelError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForeignModelError(f"{path} is no TOML file that can be read: {error}") from error


def describe(values: dict[str, Any]) -> Description:
    """A description of values by their names as flags and files spell them: `size`, `short_side`, `fps`, `dtype`.

    Raises ForeignModelError, which names what is missing or wrong.
    """
    given = {_SPELLED.get(name, name): value for name, value in values.items()}
    if "size" in given:
        given["height"], given["width"] = _sides(given.pop("size"))
    if given.get("framing") == "whole" or "resize_short_side" not in given:
        given.setdefault("resize_short_side", min(given.get("height", 1), given.get("width", 1)))
    if missing := [name for name in ("labels", "frames", "height") if name not in given]:
        names = ", ".join("size" if name == "height" else name for name in missing)
        raise ForeignModelError(f"{names} must be given: nothing in the file of a network says it")
    try:
        return Description.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        spelled = {field: name for name, field in _SPELLED.items()}
        place = ".".join(spelled.get(str(part), str(part)) for part in first["loc"])
        found = "" if first["type"] == "value_error" and not place else f", not {first['input']!r}"
        raise ForeignModelError(f"{place}: {first['msg']}{found}".removeprefix(": ")) from None


def _sides(size: object) -> tuple[int, int]:
    sides = str(size).split("x") if isinstance(size, (str, int)) else list(size) if isinstance(size, list) else []
    try:
        height, width = (int(side) for side in (sides if len(sides) == 2 else sides * 2))
    except (ValueError, TypeError):
        raise ForeignModelError(f"size must be {_SIZE}, not {size!r}") from None
    return height, width
