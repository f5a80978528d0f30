"""VidTr and C-VidTr in the paper's form: separable attention on a grid with class tokens in space and in time.

Reference: VidTr: Video Transformer Without Convolutions, arXiv 2104.11746, sections on separable attention and on
compact VidTr. Token grid X `(B, T+1, S+1, d)`: frame row t holds the spatial class token of frame t and then its S
patches in row-major order; row 0 holds one temporal class token per column. X[0, 0] is S^(0,0), the token classified.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.attention import separable_attention
from service.model.config import VidTrConfig
from service.model.pooling import take_token_rows
from service.model.rollout import layer_flow, rollout


class Scores(NamedTuple):
    """What the network says of a batch of clips; attention and retention are float32."""

    logits: Tensor
    """`(B, K)`, before softmax or sigmoid."""
    temporal_attention: Tensor
    """`(B, T)`, non-negative, sums to 1 (see `service.model.rollout`)."""
    layer_attention: Tensor
    """`(B, L, T)`, non-negative, each row sums to 1."""
    layer_retention: Tensor
    """`(B, L, T)`, share of heads x locations that still carry the frame after the layer."""


class PatchEmbedding(nn.Module):
    """Linear embedding of flattened patches.

    The weight keeps the shape `(d, 3, 1, p, p)` under which the released weights store it; with kernel equal to stride
    that convolution is this linear map.
    """

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.weight = nn.Parameter(torch.empty(dim, 3, 1, patch, patch))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, clips: Tensor) -> Tensor:
        """Embed clips `(B, 3, T, H, W)` as `(B, T, S, d)`."""
        p = self.patch
        batch, colours, frames, height, width = clips.shape
        x = clips.reshape(batch, colours, frames, height // p, p, width // p, p)
        x = x.permute(0, 2, 3, 5, 1, 4, 6)  # (B, T, H/p, W/p, 3, p, p)
        x = x.reshape(batch, frames, (height // p) * (width // p), colours * p * p)  # (B, T, S, 3pp)
        return F.linear(x, self.weight.flatten(1), self.bias)


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer: separable attention, then an MLP, each with a residual.

    In a pooling layer the residual stream keeps the same grid rows as the attention.
    """

    def __init__(self, config: VidTrConfig, layer: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.ln_eps)
        self.self_attn = separable_attention(
            config.dim,
            config.heads,
            separate=config.qkv == "separate",
            dropout=config.dropout,
            keep=config.kept_in(layer),
            selection=config.selection,
            second_softmax=config.second_softmax,
        )
        self.norm2 = nn.LayerNorm(config.dim, eps=config.ln_eps)
        self.linear1 = nn.Linear(config.dim, config.mlp_dim)
        self.linear2 = nn.Linear(config.mlp_dim, config.dim)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Grid `(B, R, P, d)` to grid `(B, Q, P, d)`, with the layer's rollout matrices, both `(B, Q, R)`.

        `positions`, `(1, R, P, d)`, join the attention input only and never the residual stream.
        """
        normed = self.norm1(x)
        if positions is not None:
            normed = normed + positions
        attended = self.self_attn(normed)
        rows = attended.rows
        if rows is not None:
            x = take_token_rows(x, rows)
        x = x + self.dropout(attended.tokens)
        hidden = self.dropout(self.activation(self.linear1(self.norm2(x))))
        x = x + self.dropout(self.linear2(hidden))
        attention, carry = layer_flow(attended.temporal, rows)
        return x, attention, carry


class Encoder(nn.Module):
    """The stack of layers and the final norm."""

    def __init__(self, config: VidTrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config, i) for i in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=config.ln_eps)
        self.positions: str = config.positions

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Grid `(B, T+1, S+1, d)` and position table `(1, T+1, S+1, d)` to the normed S^(0,0) `(B, d)`.

        Also returns the rollout matrices `attention` and `carry` of every layer.
        """
        if self.positions == "tokens":
            x = x + positions
        attentions: list[Tensor] = []
        carries: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            in_attention = self.positions == "every_layer" or (self.positions == "first_layer" and i == 0)
            x, attention, carry = layer(x, positions if in_attention else None)
            attentions.append(attention)
            carries.append(carry)
        return self.norm(x[:, 0, 0]), attentions, carries


class VidTr(nn.Module):
    """The network. With `qkv="shared"` its parameters have the names and shapes of the released VidTr weights.

    A fresh network has Xavier-uniform matrices, class tokens and positions from a normal of deviation 0.02 truncated
    at two deviations, and zero biases.
    """

    def __init__(self, config: VidTrConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.height, self.width = config.frames, config.height, config.width
        rows, columns = config.frames + 1, config.locations + 1
        self.conv_stem = PatchEmbedding(config.patch, config.dim)
        self.cls_s = nn.Parameter(torch.empty(config.frames, 1, config.dim))
        self.cls_t = nn.Parameter(torch.empty(1, columns, config.dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, rows * columns, config.dim))
        self.encoder = Encoder(config)
        self.dropout = nn.Dropout(config.head_dropout)
        self.fc = nn.Linear(config.dim, config.classes)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.encoder.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        # As the linear map it is: the fan-out of a convolution would count every pixel of the patch.
        nn.init.xavier_uniform_(self.conv_stem.weight.flatten(1))
        for token in (self.cls_s, self.cls_t, self.pos_embedding):
            nn.init.trunc_normal_(token, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.fc.bias)

    def forward(self, clips: Tensor) -> Scores:
        """Score normalised RGB clips, floating `(B, 3, T, H, W)`.

        Raises ValueError where the shape is not the configured one.
        """
        if list(clips.shape[1:]) != [3, self.frames, self.height, self.width]:
            expected = f"(B, 3, {self.frames}, {self.height}, {self.width})"
            raise ValueError(f"clips must be {expected}, not {clips.shape}")
        patches = self.conv_stem(clips)  # (B, T, S, d)
        batch, frames, locations, dim = patches.shape
        x = torch.cat([self.cls_s.expand(batch, frames, 1, dim), patches], dim=2)  # (B, T, S+1, d)
        x = torch.cat([self.cls_t.expand(batch, 1, locations + 1, dim), x], dim=1)  # (B, T+1, S+1, d)
        positions = self.pos_embedding.view(1, frames + 1, locations + 1, dim)
        feature, attention, carry = self.encoder(x, positions)
        logits = self.fc(self.dropout(feature))
        temporal_attention, layer_attention, layer_retention = rollout(attention, carry)
        return Scores(logits, temporal_attention, layer_attention, layer_retention)
