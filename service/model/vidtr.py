"""VidTr and C-VidTr in the paper's form: separable attention on a grid with class tokens in space and in time.

Reference: VidTr: Video Transformer Without Convolutions, arXiv 2104.11746, sections on separable attention and on
compact VidTr. Token grid X `(B, T+1, S+1, d)`: frame row t holds the spatial class token of frame t and then its S
patches in row-major order; row 0 holds one temporal class token per column. X[0, 0] is S^(0,0), the token classified.
The ablations of class tokens leave out row 0, or row 0 and column 0. In shapes below, R is the rows and P the columns.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from service.model.attention import (
    Pool,
    SeparateProjectionAttention,
    SharedProjectionAttention,
    SpatialFirstAttention,
)
from service.model.config import VidTrConfig
from service.model.layers import EncoderLayer, LayerNorm32, NetworkOutput, PatchEmbedding, check_clips, initialize
from service.model.pair_pooling import PairConv, PairMean
from service.model.pooling import TopKStd
from service.model.rollout import layer_flow, rollout
from service.model.spatial_map import read_in_space, slot_origins, spatial_map


def grid_attention(
    config: VidTrConfig, layer: int
) -> SharedProjectionAttention | SeparateProjectionAttention | SpatialFirstAttention:
    """The attention of one layer, with its pooling."""
    if config.order == "spatial_first":
        return SpatialFirstAttention(config.dim, config.heads, config.dropout)
    keep = config.kept_in(layer)
    pool: Pool | None
    if keep is None:
        pool = None
    elif config.pooling_method == "topk_std":
        pool = TopKStd(keep, config.selection, config.second_softmax)
    else:
        pool = PairMean() if config.pooling_method == "avg" else PairConv(config.dim)
    kind = SeparateProjectionAttention if config.qkv == "separate" else SharedProjectionAttention
    return kind(config.dim, config.heads, config.dropout, pool)


class GridLayer(EncoderLayer):
    """Pre-norm transformer layer: separable attention, then an MLP, each with a residual.

    In a pooling layer the residual stream keeps the same grid rows as the attention.
    """

    if TYPE_CHECKING:  # TorchScript would take the annotation for the type of a value.
        self_attn: SharedProjectionAttention | SeparateProjectionAttention | SpatialFirstAttention

    def __init__(self, config: VidTrConfig, layer: int) -> None:
        super().__init__(config, grid_attention(config, layer))
        self.class_row = config.class_tokens == "both"
        self.pools = config.kept_in(layer) is not None
        self.uniform = config.pooling_method != "topk_std" or config.selection == "frame"

    def forward(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Grid `(B, R, P, d)` to grid `(B, Q, P, d)`, with the layer's rollout matrices, both `(B, u+1, t+1)`.

        With `cls_only` the grid that leaves is S^(0,0) alone, `(B, 1, 1, d)`. With `spatial` a part of the spatial map
        comes last: with `cls_only` what S^(0,0) reads, else where the layer pools its `slot_origins`.

        `positions`, `(1, R, P, d)`, join the attention input only and never the residual stream.
        """
        normed = self.norm1(x)
        if positions is not None:
            normed = normed + positions
        attended = self.self_attn(normed, self.cls_only, self.spatial and self.cls_only)
        x = self.self_attn.residual(x, attended.rows)
        if self.cls_only:
            x = x[:, :1, :1]
        x = x + self.dropout(attended.tokens)
        attention, carry = layer_flow(attended.temporal, attended.rows, self.class_row)
        part: Tensor | None = None
        across = attended.across
        if across is not None:
            part = read_in_space(attended.temporal, across)
        elif self.spatial and self.pools:
            part = slot_origins(carry, attended.rows, self.uniform, 1)
        return self.feed_forward(x), attention, carry, part


class Encoder(nn.Module):
    """The stack of layers, the final norm, and the choice of what is classified."""

    def __init__(self, config: VidTrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GridLayer(config, i) for i in range(config.depth))
        self.norm = LayerNorm32(config.dim, eps=config.ln_eps)
        self.positions: str = config.positions
        self.class_tokens: str = config.class_tokens

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Grid `(B, R, P, d)` and position table `(1, R, P, d)` to the normed feature to classify, `(B, d)`.

        That is S^(0,0); with spatial class tokens only their mean over the frames, without any the mean of all tokens.
        Also returns the rollout matrices `attention` and `carry` of every layer, and the parts of the spatial map.
        """
        if self.positions == "tokens":
            x = x + positions
        attentions: list[Tensor] = []
        carries: list[Tensor] = []
        parts: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            in_attention = self.positions == "every_layer" or (self.positions == "first_layer" and i == 0)
            x, attention, carry, part = layer(x, positions if in_attention else None)
            attentions.append(attention)
            carries.append(carry)
            if part is not None:
                parts.append(part)
        if self.class_tokens == "both":
            feature = self.norm(x[:, 0, 0])
        elif self.class_tokens == "spatial":
            feature = self.norm(x[:, :, 0]).mean(dim=1)
        else:
            feature = self.norm(x).mean(dim=[1, 2])
        return feature, attentions, carries, parts


class VidTr(nn.Module):
    """The network. With `qkv="shared"` its parameters have the names and shapes of the released VidTr weights.

    A fresh network has the weights of `service.model.layers.initialize`.
    """

    if TYPE_CHECKING:  # TorchScript would no longer see which of them is None.
        cls_s: Tensor | None
        cls_t: Tensor | None

    def __init__(self, config: VidTrConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.height, self.width = config.frames, config.height, config.width
        self.rows, self.columns = config.rows, config.columns
        spatial, temporal = config.class_tokens != "none", config.class_tokens == "both"
        self.num_separable = 0 if temporal else config.depth
        self.conv_stem = PatchEmbedding(config.patch, config.dim)
        cls_s = nn.Parameter(torch.empty(config.frames, 1, config.dim)) if spatial else None
        cls_t = nn.Parameter(torch.empty(1, config.columns, config.dim)) if temporal else None
        self.register_parameter("cls_s", cls_s)
        self.register_parameter("cls_t", cls_t)
        self.pos_embedding = nn.Parameter(torch.empty(1, config.rows * config.columns, config.dim))
        self.encoder = Encoder(config)
        self.dropout = nn.Dropout(config.head_dropout)
        self.fc = nn.Linear(config.dim, config.classes)
        tables = [table for table in (cls_s, cls_t, self.pos_embedding) if table is not None]
        initialize(self.encoder, self.conv_stem, tables, self.fc)

    def forward(self, clips: Tensor) -> NetworkOutput:
        """Score normalized RGB clips, floating `(B, 3, T, H, W)`.

        Raises ValueError where the shape is not the configured one.
        """
        return self.scores(clips)[0]

    def with_map(self, clips: Tensor) -> tuple[NetworkOutput, Tensor]:
        """The same with the spatial map, float32 `(B, T, S)`; of a network of `for_inference(..., spatial=True)`."""
        output, parts = self.scores(clips)
        return output, spatial_map(parts)

    def scores(self, clips: Tensor) -> tuple[NetworkOutput, list[Tensor]]:
        """What `forward` returns, and the parts of the spatial map, none unless the layers were asked for them."""
        check_clips(clips, self.frames, self.height, self.width)
        x = self.conv_stem(clips)  # (B, T, S, d)
        batch, dim = x.size(0), x.size(3)
        if self.cls_s is not None:
            x = torch.cat([self.cls_s.expand(batch, self.frames, 1, dim), x], dim=2)  # (B, T, S+1, d)
        if self.cls_t is not None:
            x = torch.cat([self.cls_t.expand(batch, 1, self.columns, dim), x], dim=1)  # (B, T+1, S+1, d)
        positions = self.pos_embedding.view(1, self.rows, self.columns, dim)
        feature, attention, carry, parts = self.encoder(x, positions)
        logits = self.fc(self.dropout(feature))
        temporal_attention, layer_attention, layer_retention = rollout(attention, carry, self.num_separable)
        return NetworkOutput(logits, temporal_attention, layer_attention, layer_retention), parts
