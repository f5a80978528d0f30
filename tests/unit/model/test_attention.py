"""Separable attention against an oracle that visits one location and one frame at a time."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from service.model import attention
from service.model.attention import (
    Attended,
    SeparateProjectionAttention,
    SharedProjectionAttention,
    SpatialFirstAttention,
)
from service.model.config import Selection
from service.model.pooling import TopKStd

HEADS, DIM = 2, 12
CHANNELS = DIM // HEADS


def attention_layer(
    *, separate: bool, keep: int | None = None, selection: Selection = "head_location", dropout: float = 0.0
) -> SharedProjectionAttention | SeparateProjectionAttention:
    pool = None if keep is None else TopKStd(keep, selection, second_softmax=False)
    layer = (SeparateProjectionAttention if separate else SharedProjectionAttention)(DIM, HEADS, dropout, pool)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return layer.double().eval()


def tokens(batch: int = 2) -> Tensor:
    return torch.randn(batch, 6, 4, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def slow_separate(layer: SeparateProjectionAttention, x: Tensor, rows: Tensor | None) -> Tensor:
    """MSA_s(MSA_t(x)), the pooled rows given."""
    batch, slots, columns, _ = x.shape
    kept = slots if rows is None else rows.size(-1)
    in_time = x.new_zeros(batch, kept, columns, DIM)
    qkv = layer.temporal_proj(x)
    for b in range(batch):
        for j in range(HEADS):
            part = slice(j * CHANNELS, (j + 1) * CHANNELS)
            for p in range(columns):
                q, k, v = (qkv[b, :, p, i * DIM : (i + 1) * DIM][:, part] for i in range(3))
                weights = torch.softmax(q @ k.T / CHANNELS**0.5, dim=-1)
                if rows is not None:
                    weights = weights[rows[b, j, p]]
                in_time[b, :, p, part] = weights @ v
    in_space = torch.zeros_like(in_time)
    qkv = layer.spatial_proj(in_time)
    for b in range(batch):
        for j in range(HEADS):
            part = slice(j * CHANNELS, (j + 1) * CHANNELS)
            for t in range(kept):
                q, k, v = (qkv[b, t, :, i * DIM : (i + 1) * DIM][:, part] for i in range(3))
                in_space[b, t, :, part] = torch.softmax(q @ k.T / CHANNELS**0.5, dim=-1) @ v
    projected: Tensor = layer.out_proj(in_space)
    return projected


@pytest.mark.parametrize("keep", [None, 3])
def test_separate_projections_attend_in_time_and_then_in_space(keep: int | None) -> None:
    layer = attention_layer(separate=True, keep=keep)
    assert isinstance(layer, SeparateProjectionAttention)
    with torch.inference_mode():
        attended: Attended = layer(tokens())
        torch.testing.assert_close(attended.tokens, slow_separate(layer, tokens(), attended.rows))


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("selection", get_args(Selection))
def test_rows_of_the_temporal_map_sum_to_one_after_pooling(separate: bool, selection: Selection) -> None:
    attended: Attended = attention_layer(separate=separate, keep=3, selection=selection)(tokens())
    assert attended.temporal.shape == (2, HEADS, 4, 4, 6)
    torch.testing.assert_close(attended.temporal.sum(dim=-1), torch.ones(2, HEADS, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("separate", [False, True])
def test_one_clip_does_not_see_another(separate: bool) -> None:
    layer = attention_layer(separate=separate, keep=3)
    together: Attended = layer(tokens(2))
    alone: Attended = layer(tokens(2)[1:])
    torch.testing.assert_close(together.tokens[1:], alone.tokens)


@pytest.mark.parametrize("separate", [False, True])
def test_dropout_is_off_outside_training(separate: bool) -> None:
    layer = attention_layer(separate=separate, dropout=0.5)
    assert torch.equal(layer(tokens()).tokens, layer(tokens()).tokens)


def one_column(*, separate: bool) -> tuple[Tensor, Tensor]:
    """Head outputs of a grid with one column, in eval and in training mode with dropout one half.

    Spatial attention has a single weight of 1 there, so its dropout yields 0 or twice the temporal result.
    """
    layer = attention_layer(separate=separate, dropout=0.5)
    torch.nn.init.eye_(layer.out_proj.weight)
    torch.nn.init.zeros_(layer.out_proj.bias)
    torch.manual_seed(8)
    x = tokens()[:, :, :1]
    return layer(x).tokens, layer.train()(x).tokens


@pytest.mark.parametrize("separate", [False, True])
def test_dropout_acts_on_temporal_attention(separate: bool) -> None:
    steady, noisy = one_column(separate=separate)
    assert not torch.allclose(noisy[noisy != 0] / 2, steady[noisy != 0])


@pytest.mark.parametrize("separate", [False, True])
def test_dropout_acts_on_spatial_attention(separate: bool) -> None:
    steady, noisy = one_column(separate=separate)
    # Half of the head slices; temporal dropout alone empties one in 64.
    assert (noisy[steady != 0] == 0).double().mean() > 0.2


@pytest.mark.parametrize("separate", [False, True])
def test_the_reported_map_is_free_of_dropout(separate: bool) -> None:
    layer = attention_layer(separate=separate, dropout=0.5)
    steady = layer(tokens()).temporal
    torch.testing.assert_close(layer.train()(tokens()).temporal, steady)


def spatial_first() -> SpatialFirstAttention:
    layer = SpatialFirstAttention(DIM, HEADS, 0.5)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return layer.double().eval()


def test_in_the_other_order_dropout_acts_on_temporal_attention() -> None:
    layer = spatial_first().train()
    torch.nn.init.eye_(layer.out_proj.weight)
    torch.nn.init.zeros_(layer.out_proj.bias)
    torch.manual_seed(8)
    # A single frame attends to itself with a weight of 1, so that dropout empties whole heads.
    assert (layer(tokens()[:, :1]).tokens == 0).double().mean() > 0.2


@pytest.mark.parametrize(("training", "dropout"), [(True, 0.5), (False, 0.0)])
def test_in_the_other_order_dropout_acts_on_spatial_attention_in_training(
    training: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []
    attend = attention.spatial_attention

    def spy(query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float) -> Tensor:
        used.append(dropout)
        return attend(query, key, value, heads, dropout)

    monkeypatch.setattr(attention, "spatial_attention", spy)
    spatial_first().train(training)(tokens())
    assert used == [dropout]
