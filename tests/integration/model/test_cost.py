"""Costs of the networks: what meta tensors measure against closed forms and against real tensors."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import scaling_model
from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import Cost, Maps, activation_bytes, count_parameters, measure, training_bytes
from service.model.factory import build_network
from service.model.presets import PRESETS
from tests.unit.model.networks import tiny_config

GIB = 2**30
NETWORKS = {name: preset.config for name, preset in PRESETS.items() if name != "untrained_tiny"}
VANILLA, VIDTR = PRESETS["vanilla_8x8"].config, PRESETS["vidtr_s_8x8"].config
# Not a preset, but the vanilla counterpart of VidTr-L.
NETWORKS["vanilla_32x2"] = replace(VANILLA, frames=32)

# Of the released code, run on meta tensors.
PARAMETERS = {
    "vanilla_8x8": 87_159_952,
    "vanilla_16x4": 88_364_176,
    "vanilla_32x2": 90_772_624,
    "vidtr_s_8x8": 87_473_296,
    "vidtr_m_16x4": 88_689_808,
    "vidtr_l_32x2": 91_122_832,
    "cvidtr_s_8x8": 87_159_952,
    "cvidtr_m_16x4": 88_364_176,
}
GFLOPS = {
    "vanilla_8x8": 359.1,
    "vanilla_16x4": 899.4,
    "vanilla_32x2": 2523.6,
    "vidtr_s_8x8": 316.5,
    "vidtr_m_16x4": 599.0,
    "vidtr_l_32x2": 1166.8,
    "cvidtr_s_8x8": 129.2,
    "cvidtr_m_16x4": 154.4,
}
ACTIVATION_GIB = {
    "vanilla_8x8": (2.03, 3.98),
    "vanilla_16x4": (6.70, 13.89),
    "vanilla_32x2": (23.9, 51.5),
    "vidtr_s_8x8": (1.12, 1.70),
    "vidtr_m_16x4": (2.13, 3.24),
    "vidtr_l_32x2": (4.19, 6.42),
    "cvidtr_s_8x8": (0.50, 0.74),
    "cvidtr_m_16x4": (0.60, 0.89),
}


@cache
def cost_of(name: str) -> Cost:
    return measure(NETWORKS[name])


def multiply_adds(config: VidTrConfig | SequenceConfig) -> int:
    """Multiply-adds of one clip in closed form, the MLP being four times as wide as the tokens."""
    d, s = config.dim, config.locations
    total = config.frames * s * d * 3 * config.patch**2 + d * config.classes
    t = config.frames
    for layer in range(config.depth):
        u = config.kept_in(layer) or t
        if isinstance(config, VidTrConfig):
            tokens = (t + 1) * (s + 1)
            total += 12 * tokens * d**2 + 2 * (s + 1) * (t + 1) ** 2 * d + 2 * (t + 1) * (s + 1) ** 2 * d
        elif layer < config.separable_layers:
            projections = 3 * t * s * d**2 + u * s * d**2
            total += projections + 8 * (u * s + 1) * d**2 + (t**2 + u * t) * s * d + 2 * u * s**2 * d
        else:
            tokens = 1 + t * s
            total += 12 * tokens * d**2 + 2 * tokens**2 * d
        t = u
    return total


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_released_network_has_the_parameters_of_the_released_code(name: str) -> None:
    assert count_parameters(NETWORKS[name]) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_training_forward_costs_the_flops_of_the_released_code(name: str) -> None:
    assert cost_of(name).training_flops / 1e9 == pytest.approx(GFLOPS[name], rel=0.01)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_training_forward_costs_what_the_closed_form_says(name: str) -> None:
    assert cost_of(name).training_flops == pytest.approx(2 * multiply_adds(NETWORKS[name]), rel=0.001)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_inference_costs_no_more_than_a_training_forward(name: str) -> None:
    cost = cost_of(name)
    assert 0.5 * cost.training_flops < cost.inference_flops <= cost.training_flops


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_activations_without_dropout_take_the_memory_of_the_released_code(name: str) -> None:
    measured = activation_bytes(NETWORKS[name], "materialized", dropout=False) / GIB
    assert measured == pytest.approx(ACTIVATION_GIB[name][0], rel=0.1)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_activations_with_dropout_take_the_memory_of_the_released_code_on_a_gpu(name: str) -> None:
    measured = activation_bytes(NETWORKS[name], "materialized", dropout=True) / GIB
    assert measured == pytest.approx(ACTIVATION_GIB[name][1], rel=0.1)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"untrained_tiny"}))
def test_the_documented_costs_are_the_measured_ones(name: str) -> None:
    config, reported = PRESETS[name].config, PRESETS[name].reported_gflops
    columns: tuple[tuple[Maps, bool], ...] = (("materialized", False), ("materialized", True), ("fused", True))
    memory = [activation_bytes(config, maps, dropout=dropout) / GIB for maps, dropout in columns]
    row = [
        f"`{name}`",
        f"{cost_of(name).parameters:,}",
        f"{cost_of(name).training_flops / 1e9:.1f}",
        "-" if reported is None else f"{reported:g}",
        *(f"{gib:.2f}" for gib in memory),
    ]
    page = Path(__file__).parents[3] / "docs" / "model.md"
    assert f"| {' | '.join(row)} |" in page.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": 4, "pooling": ((0, 2),), "pooling_method": "avg"},
        {"frames": 4, "pooling": ((0, 2),), "pooling_method": "conv"},
        {"class_tokens": "spatial"},
        {"class_tokens": "none", "order": "spatial_first"},
        {"qkv": "separate", "positions": "tokens"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_the_variants_of_the_paper_can_be_measured(changes: dict[str, Any]) -> None:
    assert measure(tiny_config(**changes)).training_flops > 0


def test_the_grid_of_vidtr_keeps_all_its_tokens_in_every_layer() -> None:
    assert cost_of("vidtr_s_8x8").tokens == (9 * 197,) * 12


def test_the_tokens_of_cvidtr_follow_its_pooling_schedule() -> None:
    frames = (8, 6, 6, 4, 4, 2, 2, 2, 2, 2, 2, 2)
    assert cost_of("cvidtr_s_8x8").tokens == tuple(1 + t * 196 for t in frames)


def test_fused_attention_keeps_fewer_bytes_than_materialized_maps() -> None:
    materialized, fused = (activation_bytes(VANILLA, maps, dropout=False) for maps in ("materialized", "fused"))
    one_map = 12 * (1 + 8 * 196) ** 2 * 4
    assert materialized - fused > 11 * one_map


def test_total_training_memory_adds_weights_gradients_and_momentum() -> None:
    activations = activation_bytes(VIDTR, "fused", dropout=True)
    assert training_bytes(VIDTR, "fused", dropout=True) - activations == 3 * 4 * count_parameters(VIDTR)


def test_a_clip_of_twice_the_frames_takes_more_than_twice_the_memory_of_joint_attention() -> None:
    short, long = (activation_bytes(replace(VANILLA, frames=t), "materialized", dropout=False) for t in (8, 16))
    assert long > 3 * short


SMALL = replace(VIDTR, height=32, width=48, depth=2, heads=2, dim=32, mlp_dim=128, classes=5)
SMALL_SEQUENCE = replace(VANILLA, height=32, width=48, depth=2, heads=2, dim=32, mlp_dim=128, classes=5)


@pytest.mark.parametrize("config", [SMALL, SMALL_SEQUENCE], ids=["grid", "sequence"])
def test_the_bytes_counted_on_meta_tensors_are_those_of_real_tensors(config: VidTrConfig | SequenceConfig) -> None:
    network = build_network(replace(config, dropout=0.0, head_dropout=0.0)).train()
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    clip = torch.randn(1, 3, config.frames, config.height, config.width)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        network(clip)
    real = sum(storage.nbytes() for storage in kept.values())
    # PyTorch's own unfused attention also keeps a scaled copy of the keys.
    assert activation_bytes(config, "materialized", dropout=False) == pytest.approx(real, rel=0.05)


def test_the_model_of_scaling_plans_with_the_measured_operations_of_a_clip() -> None:
    assert measure(PRESETS["cvidtr_s_8x8"].config).inference_flops == pytest.approx(scaling_model.CLIP_FLOPS, rel=0.001)
