"""What all the networks are made of, around their attention.

Reference: arXiv 2104.11746. A clip becomes patches, each a linear embedding; pre-norm encoder layers follow, then a
final norm and a linear classifier. Layers differ in their attention and in how the residual meets it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.model.config import NetworkConfig


class NetworkOutput(NamedTuple):
    """What the network says of a batch of clips; attention and retention are float32."""

    logits: Tensor
    """`(B, K)`, before softmax or sigmoid."""
    temporal_attention: Tensor
    """`(B, T)`, non-negative, sums to 1 (see `service.model.rollout`)."""
    layer_attention: Tensor
    """`(B, L, T)`, non-negative, each row sums to 1."""
    layer_retention: Tensor
    """`(B, L, T)`, share of heads x locations that still carry the frame after the layer."""


def project(x: Tensor, weight: Tensor, bias: Tensor, part: int) -> Tensor:
    """Query (`part` 0), key (1) or value (2) of tokens `(..., d)` by packed projections `(3d, d)` and `(3d,)`."""
    dim = weight.size(1)
    return F.linear(x, weight.narrow(0, part * dim, dim), bias.narrow(0, part * dim, dim))


def softmax32(scores: Tensor, scale: float) -> Tensor:
    """Softmax of `scale` x scores along the last dimension, in float32 where the scores are of lower precision."""
    return (scores if scores.dtype == torch.float64 else scores.float()).mul(scale).softmax(dim=-1)


class LayerNorm32(nn.LayerNorm):
    """Layer norm computed in the precision of its parameters, float32 also in a network of half precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension of `(..., d)`; the result has the dtype of `x`."""
        wide = x.to(self.weight.dtype)
        return F.layer_norm(wide, self.normalized_shape, self.weight, self.bias, self.eps).to(x.dtype)


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
        """Embed clips `(B, 3, T, H, W)` as `(B, T, S, d)`; pixels that are integers are taken as numbers."""
        p = self.patch
        batch, colors, frames, height, width = clips.shape
        x = clips.reshape(batch, colors, frames, height // p, p, width // p, p)
        x = x.permute(0, 2, 3, 5, 1, 4, 6)  # (B, T, H/p, W/p, 3, p, p)
        x = x.reshape(batch, frames, (height // p) * (width // p), colors * p * p)  # (B, T, S, 3pp)
        return F.linear(x.to(self.weight.dtype), self.weight.flatten(1), self.bias)


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer without its forward: norms, the given attention, and the MLP.

    Parameters have the names of the released weights. With `cls_only`
    (see `service.model.factory.for_inference`) it continues with the first token alone once its attention has seen all
    of them. With `spatial` it gives its part of `service.model.spatial_map.spatial_map`.
    """

    def __init__(self, config: NetworkConfig, attention: nn.Module) -> None:
        super().__init__()
        self.cls_only = False
        self.spatial = False
        self.norm1 = LayerNorm32(config.dim, eps=config.ln_eps)
        self.self_attn = attention
        self.norm2 = LayerNorm32(config.dim, eps=config.ln_eps)
        self.linear1 = nn.Linear(config.dim, config.mlp_dim)
        self.linear2 = nn.Linear(config.mlp_dim, config.dim)
        self.activation = nn.GELU() if config.activation == "gelu" else nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(config.dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Add the MLP of the normalized tokens, `(..., d)` to `(..., d)`."""
        hidden = self.dropout(self.activation(self.linear1(self.norm2(x))))
        x = x + self.dropout(self.linear2(hidden))
        return x


def initialize(encoder: nn.Module, stem: PatchEmbedding, tables: Sequence[nn.Parameter], head: nn.Linear) -> None:
    """Set fresh weights: matrices Xavier-uniform, class tokens and positions small, biases zero.

    `tables`, the class tokens and positions, are drawn from a normal of deviation 0.02 truncated at two deviations.
    The kernels of pooling convolutions keep the pair means that they start from.
    """
    for name, parameter in encoder.named_parameters():
        if parameter.dim() > 1 and ".pool." not in name:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    # As the linear map it is: the fan-out of a convolution would count every pixel of the patch.
    nn.init.xavier_uniform_(stem.weight.flatten(1))
    for table in tables:
        nn.init.trunc_normal_(table, std=0.02, a=-0.04, b=0.04)
    nn.init.zeros_(head.bias)


def check_clips(clips: Tensor, frames: int, height: int, width: int) -> None:
    """Raise ValueError unless `clips` are `(B, 3, T, H, W)` of the given sizes."""
    if list(clips.shape[1:]) != [3, frames, height, width]:
        expected = f"(B, 3, {frames}, {height}, {width})"
        raise ValueError(f"clips must be {expected}, not {clips.shape}")
