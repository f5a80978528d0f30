"""The baselines of the benchmarks compute the same as what they are compared with."""

import pytest
import torch

from benchmarks.model import needed_flops, straightforward
from service.model.build import build_network, for_inference
from service.model.config import SequenceConfig, VidTrConfig
from service.model.cost import measure
from service.model.presets import find_preset

COMMON = {"height": 32, "width": 48, "frames": 8, "patch": 8, "heads": 4, "dim": 32, "mlp_dim": 64, "classes": 5}
CONFIGS = {
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
