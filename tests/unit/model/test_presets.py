"""Presets: the networks that come with the project."""

from pathlib import Path

import pytest
import torch

from service.model.export import Served
from service.model.presets import PRESETS, build_preset, export_preset
from tests.unit.model.networks import random_uint8


def test_a_preset_is_the_same_network_every_time() -> None:
    first, second = build_preset("untrained_tiny"), build_preset("untrained_tiny")
    assert all(torch.equal(p, second.state_dict()[name]) for name, p in first.state_dict().items())


def test_building_a_preset_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_preset("untrained_tiny")
    assert torch.equal(torch.rand(1), expected)


def test_an_untrained_preset_still_tells_clips_apart() -> None:
    network = build_preset("untrained_tiny")
    with torch.inference_mode():
        logits = Served(network).eval()(random_uint8(network.config, 1))[0]
        other = Served(network).eval()(torch.zeros_like(random_uint8(network.config, 1)))[0]
    assert (logits - other).abs().max() > 0.1


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="no preset 'huge'; there are untrained_tiny"):
        build_preset("huge")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_an_exported_preset_is_small(name: str, tmp_path: Path) -> None:
    assert (export_preset(name, tmp_path) / "1" / "model.pt").stat().st_size < 5_000_000
