"""Networks on a sequence of one class token and T*S patches: vanilla, hybrid, and C-VidTr as it was released.

Reference: arXiv 2104.11746, sections on the vanilla video transformer and on compact VidTr. All share the encoder of
`VidTr`; released C-VidTr differs from the paper's text, which has class tokens in space and in time and stays
separable. Here leading layers may be separable, without the class token, which meets the video in the joint layers.
In shapes below, t is the frames alive and N = 1 + t*S the tokens, class token first, then frame after frame.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from service.model.attention import SharedProjectionAttention
from service.model.config import SequenceConfig
from service.model.joint_attention import JointAttention
from service.model.layers import EncoderLayer, LayerNorm32, NetworkOutput, PatchEmbedding, check_clips, initialize
from service.model.pooling import TopKStd
from service.model.rollout import joint_flow, layer_flow, rollout
from service.model.spatial_map import read_jointly, slot_origins, spatial_map


class BypassedLayer(EncoderLayer):
    """A layer of separable attention over the patches; the class token passes the attention by.

    The class token is neither projected nor attended to: its own normalized value, with positions where the layer has
    them, takes the place of the attention's output. In a pooling layer each head at each location chooses its frames,
    the chosen rows of the map go through a second softmax, and the residual stream follows head slice by head slice.
    """

    if TYPE_CHECKING:  # TorchScript would take the annotation for the type of a value.
        self_attn: SharedProjectionAttention

    def __init__(self, config: SequenceConfig, layer: int) -> None:
        keep = config.kept_in(layer)
        pool = None if keep is None else TopKStd(keep, "head_location", second_softmax=True, class_row=False)
        super().__init__(config, SharedProjectionAttention(config.dim, config.heads, config.dropout, pool))
        self.pools = keep is not None

    def forward(
        self, cls: Tensor, x: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Class token `(1 or B, 1, d)` and patches `(B, t, S, d)` to the same with u frames.

        `positions`, `(1, N, d)`, join the attention input only. Also returns the layer's rollout matrices, both
        `(B, u+1, t+1)`, and with `spatial` where it pools its `slot_origins`.
        """
        passed, normed = self.norm1(cls), self.norm1(x)
        if positions is not None:
            passed = passed + positions[:, :1]
            normed = normed + positions[:, 1:].view(normed.shape[1:]).unsqueeze(0)
        attended = self.self_attn(normed)
        cls = cls + self.dropout(passed)
        x = self.self_attn.residual(x, attended.rows) + self.dropout(attended.tokens)
        attention, carry = layer_flow(attended.temporal, attended.rows, False)
        part: Tensor | None = None
        if self.spatial and self.pools:
            part = slot_origins(carry, attended.rows, False, 0)
        return self.feed_forward(cls), self.feed_forward(x), attention, carry, part


class JointLayer(EncoderLayer):
    """A layer of joint attention over the class token and all patches."""

    def __init__(self, config: SequenceConfig, frames: int) -> None:
        attention = JointAttention(config.dim, config.heads, config.dropout, config.joint_value_positions)
        super().__init__(config, attention)
        self.frames = frames

    def forward(
        self, cls: Tensor, x: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """The whole sequence `x (B, N, d)` to the same shape, or with `cls_only` to the class token `(B, 1, d)`.

        `cls`, which the sequence contains, is not read; what is returned in its place is the class token of the result.

        `positions`, `(1, N, d)`, join the attention input only. Also returns the layer's rollout matrices, both
        `(B, t+1, t+1)`, and with `spatial` and `cls_only` what the class token reads.
        """
        attended = self.self_attn(self.norm1(x), positions, self.cls_only)
        if self.cls_only:
            x = x[:, :1]
        x = x + self.dropout(attended.tokens)
        attention, carry = joint_flow(attended.class_weights, self.frames)
        part: Tensor | None = None
        if self.spatial and self.cls_only:
            part = read_jointly(attended.class_weights, self.frames)
        x = self.feed_forward(x)
        return x[:, :1], x, attention, carry, part


class SequenceEncoder(nn.Module):
    """The separable layers, the joint ones, and the final norm."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        alive = config.pooling[-1][1] if config.pooling else config.frames
        separable = config.separable_layers
        self.layers = nn.ModuleList(
            BypassedLayer(config, i) if i < separable else JointLayer(config, alive) for i in range(config.depth)
        )
        self.norm = LayerNorm32(config.dim, eps=config.ln_eps)
        self.separable_layers = separable
        self.every_layer = config.positions == "every_layer"

    def forward(
        self, cls: Tensor, x: Tensor, positions: Tensor
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Class token `(1, 1, d)`, patches `(B, T, S, d)` and positions `(1, 1 + T*S, d)` to the feature `(B, d)`.

        Also returns the rollout matrices `attention` and `carry` of every layer, and the parts of the spatial map.
        """
        # Until the first joint layer the class token is the same for all clips, but for the dropout in training.
        if self.training:
            cls = cls.expand(x.size(0), 1, x.size(-1))
        attentions: list[Tensor] = []
        carries: list[Tensor] = []
        parts: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            if i == self.separable_layers:
                x = torch.cat([cls.expand(x.size(0), 1, x.size(-1)), x.flatten(1, 2)], dim=1)  # (B, N, d)
            in_attention = self.every_layer or i == 0
            cls, x, attention, carry, part = layer(cls, x, positions if in_attention else None)
            attentions.append(attention)
            carries.append(carry)
            if part is not None:
                parts.append(part)
        return self.norm(x[:, 0]), attentions, carries, parts


class SequenceVidTr(nn.Module):
    """The network. Its parameters have the names and shapes of the released C-VidTr weights.

    A fresh network has the weights of `service.model.layers.initialize`.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.height, self.width = config.frames, config.height, config.width
        self.num_separable = config.separable_layers
        self.conv_stem = PatchEmbedding(config.patch, config.dim)
        self.cls = nn.Parameter(torch.empty(1, 1, config.dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, 1 + config.frames * config.locations, config.dim))
        self.encoder = SequenceEncoder(config)
        self.dropout = nn.Dropout(config.head_dropout)
        self.fc = nn.Linear(config.dim, config.classes)
        initialize(self.encoder, self.conv_stem, (self.cls, self.pos_embedding), self.fc)

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
        feature, attention, carry, parts = self.encoder(self.cls, self.conv_stem(clips), self.pos_embedding)
        logits = self.fc(self.dropout(feature))
        temporal_attention, layer_attention, layer_retention = rollout(attention, carry, self.num_separable)
        return NetworkOutput(logits, temporal_attention, layer_attention, layer_retention), parts
