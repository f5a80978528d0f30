"""The baselines of the benchmarks compute the same as what they are compared with."""

from typing import Any

import pytest
import torch

from benchmarks.ablation import changed, ways
from benchmarks.model import needed_flops, straightforward
from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import measure
from service.model.factory import build_network, for_inference
from service.model.presets import find_preset
from service.training.config import TrainConfig

COMMON: dict[str, Any] = {
    "height": 32,
    "width": 48,
    "frames": 8,
    "patch": 8,
    "heads": 4,
    "dim": 32,
    "mlp_dim": 64,
    "classes": 5,
}
CONFIGS: dict[str, VidTrConfig | SequenceConfig] = {
    "vidtr": VidTrConfig(**COMMON, depth=3, positions="first_layer", activation="relu"),
    "cvidtr": SequenceConfig(**COMMON, depth=5, pooling=((1, 6), (2, 4)), separable_layers=3),
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_straightforward_forward_gives_the_networks_logits(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(CONFIGS[name]).eval()
    clips = torch.randn(2, 3, 8, 32, 48)
    with torch.inference_mode():
        ours = for_inference(network)(clips).logits
        torch.testing.assert_close(straightforward(network)(clips), ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["vidtr_s_8x8", "cvidtr_s_8x8"])
def test_a_little_less_is_needed_than_a_full_forward_computes(name: str) -> None:
    config = find_preset(name).config
    full = measure(config).training_flops
    assert 0.9 * full < needed_flops(config) < full


def test_ways_to_down_sample_keep_the_same_frames_but_for_the_configured_schedule() -> None:
    network = {**COMMON, "depth": 4, "pooling": [[1, 6], [2, 4]], "qkv": "separate"}
    network.pop("classes")
    data = {"kind": "camera_moments", "pictures": "a", "held_out_pictures": "b"}
    config = TrainConfig.model_validate({"network": network, "data": data, "recipe": {"steps": 1}})
    kept = {name: changed(config, fields, None, 0).network_config(12).pooling for name, fields in ways(config).items()}
    assert kept == {
        "vanilla": (),
        "VidTr": (),
        "avg": ((1, 4), (2, 2)),
        "conv": ((1, 4), (2, 2)),
        "topK_std, halves": ((1, 4), (2, 2)),
        "topK_std, 8 to 6 to 4": ((1, 6), (2, 4)),
    }
