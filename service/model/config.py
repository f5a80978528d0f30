"""Shapes of the networks, checked once, at construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Selection = Literal["frame", "location", "head_location"]
PoolingMethod = Literal["topk_std", "avg", "conv"]
Projections = Literal["shared", "separate"]
ClassTokens = Literal["both", "spatial", "none"]
Order = Literal["temporal_first", "spatial_first"]
Positions = Literal["tokens", "first_layer", "every_layer"]
MlpActivation = Literal["relu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What all networks share.

    `pooling` lists `(layer, frames kept)` in layer order, layers counted from 0; an empty schedule keeps all frames.
    `positions` is `tokens` where the position table joins the token stream, as the paper writes; the released weights
    add it to the attention input of the `first_layer` or, in VidTr with 16 frames, of `every_layer`.

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
        self._require_choice("positions", get_args(Positions))
        self._require_choice("activation", get_args(MlpActivation))
        for field in ("dropout", "head_dropout"):
            _require(0 <= getattr(self, field) < 1, f"{field} must lie in [0, 1), not {getattr(self, field)}")
        _require(self.ln_eps > 0, f"ln_eps must be positive, not {self.ln_eps}")
        self._check_pooling()

    def _require_choice(self, field: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, field)
        _require(value in choices, f"{field} must be one of {', '.join(choices)}, not {value!r}")

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

    def kept_in(self, layer: int) -> int | None:
        """Frames that `layer` keeps, or None where it does not pool."""
        return dict(self.pooling).get(layer)


@dataclass(frozen=True, kw_only=True)
class VidTrConfig(NetworkConfig):
    """VidTr, and with a pooling schedule C-VidTr as the paper has it: separable attention on a grid of tokens.

    `pooling_method` is `topk_std`, or for comparison `avg` or a learned `conv` of stride 2, which halve the frames.
    `selection` is the scope in which topk_std chooses one set of frames: `frame` for all heads and locations together,
    `location` for each location, `head_location` for each head at each location; `second_softmax` normalizes the
    chosen rows once more.
    `qkv` is `separate` where space has its own projections of the temporal result, as the paper writes, and `shared`
    where one projection serves both steps, as the released weights do.
    `class_tokens` is `both` for the (T+1) x (S+1) grid; the ablations have `spatial` ones only, T x (S+1), or `none`,
    T x S, and `order` is `spatial_first` for the latter's ablation of the order.

    Raises ValueError naming the field that does not fit.
    """

    pooling_method: PoolingMethod = "topk_std"
    selection: Selection = "frame"
    second_softmax: bool = False
    qkv: Projections = "shared"
    class_tokens: ClassTokens = "both"
    order: Order = "temporal_first"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_choice("pooling_method", get_args(PoolingMethod))
        self._require_choice("selection", get_args(Selection))
        self._require_choice("qkv", get_args(Projections))
        self._require_choice("class_tokens", get_args(ClassTokens))
        self._require_choice("order", get_args(Order))
        _require(
            self.class_tokens == "both" or not self.pooling,
            f"pooling is defined on the grid with both class tokens, not with class_tokens={self.class_tokens!r}",
        )
        if self.order == "spatial_first":
            _require(
                self.class_tokens == "none" and self.qkv == "shared",
                "order='spatial_first' is defined for class_tokens='none' and qkv='shared' only",
            )
        if self.pooling_method != "topk_std":
            self._check_pairs()

    def _check_pairs(self) -> None:
        method = self.pooling_method
        _require(bool(self.pooling), f"pooling_method={method!r} needs a pooling schedule")
        _require(not self.second_softmax, f"second_softmax belongs to topk_std, not to {method}")
        alive = self.frames
        for layer, keep in self.pooling:
            _require(alive % 2 == 0, f"{method} pooling halves the frames, but layer {layer} gets {alive}")
            _require(
                keep == alive // 2, f"{method} pooling layer {layer} must keep {alive // 2} of {alive}, not {keep}"
            )
            alive = keep

    @property
    def form(self) -> str:
        """Name of the network form, as it stands in a served model's description."""
        if self.pooling:
            return "cvidtr_paper" if self.pooling_method == "topk_std" else f"cvidtr_{self.pooling_method}"
        if self.order == "spatial_first":
            return "vidtr_spatial_first"
        return {"both": "vidtr", "spatial": "vidtr_spatial_tokens", "none": "vidtr_no_tokens"}[self.class_tokens]

    @property
    def rows(self) -> int:
        """Rows of the token grid: the frames, and the temporal class tokens where there are any."""
        return self.frames + (self.class_tokens == "both")

    @property
    def columns(self) -> int:
        """Columns of the token grid: the locations, and the spatial class token where there is one."""
        return self.locations + (self.class_tokens != "none")


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(NetworkConfig):
    """A sequence of one class token and T*S patches: the vanilla video transformer, hybrids, released C-VidTr.

    The first `separable_layers` attend along time and then across space, without the class token, which passes them
    by; the others attend jointly over all tokens. 0 is the vanilla transformer. Released C-VidTr pools in some of its
    separable layers (topK_std for each head at each location, second softmax), the last of which is the last separable
    one.
    `joint_value_positions` tells whether positions, where a joint layer gets them, reach its values as well as its
    queries and keys; in the released code they do not.

    Raises ValueError naming the field that does not fit.
    """

    separable_layers: int = 0
    joint_value_positions: bool = False
    positions: Positions = "first_layer"
    activation: MlpActivation = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_choice("positions", ("first_layer", "every_layer"))
        _require(
            0 <= self.separable_layers < self.depth,
            f"separable_layers must lie in 0 .. {self.depth - 1}, not {self.separable_layers}: "
            "without a joint layer the class token sees no video",
        )
        if self.pooling:
            last = self.pooling[-1][0]
            _require(
                self.separable_layers == last + 1,
                f"separable_layers must end with the last pooling layer, at {last + 1}, not {self.separable_layers}",
            )

    @property
    def form(self) -> str:
        """Name of the network form, as it stands in a served model's description."""
        if self.pooling:
            return "cvidtr_official"
        return "hybrid" if self.separable_layers else "vanilla"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
