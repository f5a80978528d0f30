"""The map of what the class token reads in space, beside one that is computed from the network's own tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.model.attention import SeparateProjectionAttention
from service.model.config import SequenceConfig
from service.model.factory import Network, for_inference, has_spatial_map
from service.model.joint_attention import JointAttention
from service.model.spatial_map import read_in_space, slot_origins, spatial_map
from tests.unit.model.networks import POOLED, VARIANTS, layers, random_clips, sharp, tiny_config

Array = NDArray[np.float64]
WITH_MAP = sorted(name for name, config in VARIANTS.items() if has_spatial_map(config))
WITHOUT = sorted(name for name, config in VARIANTS.items() if not has_spatial_map(config))


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def linear(x: Array, weight: Tensor, bias: Tensor, part: int, heads: int) -> Array:
    """Part 0, 1 or 2 of packed projections of tokens `(..., d)`, split into heads: `(..., h, c)`."""
    dim = x.shape[-1]
    rows = slice(part * dim, (part + 1) * dim)
    y = x @ weight.detach().double().numpy()[rows].T + bias.detach().double().numpy()[rows]
    return np.asarray(y.reshape(*x.shape[:-1], heads, dim // heads))


def read_on_a_grid(attention: Any, x: Array, temporal: Array) -> Array:
    """`(h, S, t)` of the normalized tokens `(R, P, d)` and the temporal map `(h, P, Q, R)` of the last layer."""
    heads = attention.heads
    if isinstance(attention, SeparateProjectionAttention):
        value = linear(x, attention.temporal_proj.weight, attention.temporal_proj.bias, 2, heads)  # (R, P, h, c)
        in_time = np.einsum("hpr,rphc->phc", temporal[:, :, 0], value).reshape(x.shape[1:])  # (P, d)
        weight, bias = attention.spatial_proj.weight, attention.spatial_proj.bias
    else:
        in_time, weight, bias = x[0], attention.in_proj_weight, attention.in_proj_bias
    query, key = linear(in_time[:1], weight, bias, 0, heads)[0], linear(in_time, weight, bias, 1, heads)
    across = softmax(np.einsum("hc,phc->hp", query, key) / query.shape[-1] ** 0.5)  # (h, P)
    return np.asarray((temporal[:, :, 0] * across[:, :, None])[:, 1:, 1:])


def read_in_a_sequence(attention: JointAttention, x: Array, positions: Tensor | None, frames: int) -> Array:
    """`(h, S, t)` of the normalized tokens `(N, d)` of the last layer."""
    placed = x if positions is None else x + positions[0].detach().double().numpy()
    weight, bias, heads = attention.in_proj_weight, attention.in_proj_bias, attention.heads
    query, key = linear(placed[:1], weight, bias, 0, heads)[0], linear(placed, weight, bias, 1, heads)
    weights = softmax(np.einsum("hc,nhc->hn", query, key) / query.shape[-1] ** 0.5)[:, 1:]
    return np.asarray(weights.reshape(heads, frames, -1).transpose(0, 2, 1))


def origins_of(rows: Tensor | None, left: int, entered: int, first: int, locations: int) -> Array:
    """`(S, u, t)`: the share of heads whose slot at a location is made of a frame, or the halves of merged pairs."""
    shares = np.zeros((locations, left, entered))
    for s in range(locations):
        for u in range(left):
            if rows is None:
                shares[s, u, 2 * u : 2 * u + 2] = 0.5
            else:
                for row in rows[:, s + first, u + first].tolist():
                    shares[s, u, row - first] += 1 / len(rows)
    return shares


def slow_maps(network: Network, clips: Tensor) -> list[Array]:
    """The map `(T, S)` of each clip, of the whole network's tokens."""
    inputs: list[tuple[Any, ...]] = []
    outputs: list[Any] = []
    for layer in layers(network):
        layer.self_attn.register_forward_pre_hook(lambda _m, given: inputs.append(given))
        layer.self_attn.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    with torch.inference_mode():
        network(clips)
    config, maps = network.config, []
    first = 0 if isinstance(config, SequenceConfig) else 1
    for b in range(len(clips)):
        led, alive = np.eye(config.frames)[None].repeat(config.locations, 0), config.frames
        for i in range(config.depth - 1):
            if (keep := config.kept_in(i)) is not None:
                rows = outputs[i].rows
                led = origins_of(None if rows is None else rows[b], keep, alive, first, config.locations) @ led
                alive = keep
        attention: Any = layers(network)[-1].self_attn
        x = inputs[-1][0][b].double().numpy()
        if isinstance(attention, JointAttention):
            read = read_in_a_sequence(attention, x, inputs[-1][1], alive)
        else:
            read = read_on_a_grid(attention, x, outputs[-1].temporal[b].double().numpy())
        maps.append(np.einsum("hsu,sut->ts", read, led) / attention.heads)
    return maps


@pytest.mark.parametrize("name", WITH_MAP)
def test_the_map_is_what_the_class_token_reads_in_the_last_layer(name: str) -> None:
    network = sharp(VARIANTS[name])
    clips = random_clips(network, 2)
    with torch.inference_mode():
        served = for_inference(network, spatial=True)
        _, found = served.with_map(clips)
    assert found.dtype == torch.float32
    for ours, theirs in zip(found, slow_maps(network, clips), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=2e-4)
        assert 0 < ours.sum() <= 1 + 1e-6


@pytest.mark.parametrize("name", WITH_MAP)
def test_asking_for_the_map_changes_no_bit_of_the_other_outputs(name: str) -> None:
    network = sharp(VARIANTS[name])
    clips = random_clips(network, 2)
    with torch.inference_mode():
        plain = for_inference(network)(clips)
        outputs, _ = for_inference(network, spatial=True).with_map(clips)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs, plain, strict=True))


@pytest.mark.parametrize("name", WITHOUT)
def test_a_network_that_classifies_a_mean_of_tokens_has_no_map(name: str) -> None:
    with pytest.raises(ValueError, match=f"form {VARIANTS[name].form} classifies a mean of tokens"):
        for_inference(sharp(VARIANTS[name]), spatial=True)


def test_frames_that_left_before_the_last_layer_have_zeros_and_those_it_drops_do_not() -> None:
    network = sharp(tiny_config(**POOLED))  # Layer 0 of 3 keeps 4 of 6 frames, layer 2 keeps 2.
    with torch.inference_mode():
        scores, found = for_inference(network, spatial=True).with_map(random_clips(network, 4))
    assert torch.equal(found.sum(2) > 0, scores.layer_retention[:, -2] > 0)
    assert ((found.sum(2) > 0).sum(1) == 4).all()
    assert (scores.layer_retention[:, -1].sum(1) == 2).all()


def test_reading_worked_by_hand() -> None:
    # Two heads, one class column and two locations, the class row and two frames.
    temporal = torch.tensor([[[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]], [[0.6, 0.4, 0.0], [0.5, 0.25, 0.25]]])  # (h, S, R)
    grid = torch.cat([torch.full((2, 1, 3), 1 / 3), temporal], dim=1)[None, :, :, None]  # (B, h, P, Q, R)
    across = torch.tensor([[[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]]])  # (B, h, P)
    expected = [[(0.5 * 0.5 + 0.4 * 0.4) / 2, (0.5 * 0.3 + 0.0) / 2], [0.4 * 0.25 / 2, 0.4 * 0.25 / 2]]
    torch.testing.assert_close(read_in_space(grid, across), torch.tensor([expected]))


def test_slots_lead_back_through_choices_that_differ_by_place() -> None:
    # One head, class column and two locations; of three frames the first place keeps 1 and 3, the second 2 and 3.
    rows = torch.tensor([[[[0, 1, 2], [0, 1, 3], [0, 2, 3]]]])
    origins = slot_origins(torch.zeros(1, 3, 4), rows, False, 1)
    assert origins.tolist() == [[[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1]]]]
    read = torch.tensor([[[0.3, 0.1], [0.2, 0.4]]])  # (B, S, u)
    found = spatial_map([origins, read])
    torch.testing.assert_close(found, torch.tensor([[[0.3, 0.0], [0.0, 0.2], [0.1, 0.4]]]))
