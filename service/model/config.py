"""Shape of a separable video transformer, checked once, at construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Selection = Literal["frame", "location", "head_location"]
Projections = Literal["shared", "separate"]
Positions = Literal["tokens", "first_layer", "every_layer"]
MlpActivation = Literal["relu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class VidTrConfig:
    """VidTr, and with a pooling schedule C-VidTr, on the grid of (T+1) x (S+1) tokens.

    `pooling` lists `(layer, frames kept)` in layer order, layers counted from 0; an empty schedule is plain VidTr.
    `selection` is the scope in which one set of frames is chosen: `frame` for all heads and locations together,
    `location` for each location, `head_location` for each head at each location.
    `qkv` is `separate` where space has its own projections of the temporal result, as the paper writes, and `shared`
    where one projection serves both steps, as the released weights do.
    `positions` is `tokens` where the table joins the token stream, as the paper writes; the released weights add it to
    the attention input of the `first_layer` or, with 16 frames, of `every_layer`.

    Raises ValueError naming the field that does not fit.
    """

    height: int
    width: int
    frames: int
    patch: int
    depth: int
    heads: int
    dim: int
    mlp_dim: int
    classes: int
    pooling: tuple[tuple[int, int], ...] = ()
    selection: Selection = "frame"
    second_softmax: bool = False
    qkv: Projections = "shared"
    positions: Positions = "tokens"
    activation: MlpActivation = "gelu"
    ln_eps: float = 1e-5
    dropout: float = 0.0
    head_dropout: float = 0.0

    def __post_init__(self) -> None:
        for field in ("height", "width", "frames", "patch", "depth", "heads", "dim", "mlp_dim", "classes"):
            _require(getattr(self, field) >= 1, f"{field} must be at least 1, not {getattr(self, field)}")
        for field in ("height", "width"):
            size = getattr(self, field)
            _require(size % self.patch == 0, f"{field} ({size}) must be a multiple of patch ({self.patch})")
        _require(self.dim % self.heads == 0, f"heads ({self.heads}) must divide dim ({self.dim})")
        for field, choices in (
            ("selection", get_args(Selection)),
            ("qkv", get_args(Projections)),
            ("positions", get_args(Positions)),
            ("activation", get_args(MlpActivation)),
        ):
            value = getattr(self, field)
            _require(value in choices, f"{field} must be one of {', '.join(choices)}, not {value!r}")
        for field in ("dropout", "head_dropout"):
            _require(0 <= getattr(self, field) < 1, f"{field} must lie in [0, 1), not {getattr(self, field)}")
        _require(self.ln_eps > 0, f"ln_eps must be positive, not {self.ln_eps}")
        self._check_pooling()

    def _check_pooling(self) -> None:
        layers = [layer for layer, _ in self.pooling]
        _require(layers == sorted(set(layers)), f"pooling layers must ascend without repeats, not {layers}")
        alive = self.frames
        for layer, keep in self.pooling:
            _require(0 <= layer < self.depth, f"pooling layer {layer} is outside 0 .. {self.depth - 1}")
            _require(keep >= 1, f"pooling layer {layer} would drop all frames (keeps {keep})")
            _require(keep < alive, f"pooling layer {layer} must drop frames: it keeps {keep} of {alive}")
            alive = keep
        # After pooling a row of the grid may mix frames, and no form defines which positions it would then get.
        _require(
            not (self.pooling and self.positions == "every_layer"),
            "positions='every_layer' is defined for an empty pooling schedule only",
        )

    @property
    def locations(self) -> int:
        """S, patches in one frame."""
        return (self.height // self.patch) * (self.width // self.patch)

    @property
    def form(self) -> str:
        """Name of the network form, as it stands in a served model's description."""
        return "cvidtr_paper" if self.pooling else "vidtr"

    def kept_in(self, layer: int) -> int | None:
        """Frames that `layer` keeps, or None where it does not pool."""
        return dict(self.pooling).get(layer)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
