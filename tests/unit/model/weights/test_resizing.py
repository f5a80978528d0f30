"""Video weights for other classes, frames and sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import build_network
from service.model.weights.checkpoint import CheckpointError
from service.model.weights.matching import CheckpointMismatch
from service.model.weights.resizing import start_from
from tests.unit.model.networks import Sizes

COMMON: Sizes = {"height": 32, "width": 32, "frames": 4, "patch": 8, "depth": 1, "heads": 2, "dim": 8, "mlp_dim": 8}
GRID = VidTrConfig(**COMMON, classes=5)
SPATIAL = replace(GRID, class_tokens="spatial")
SEQUENCE = SequenceConfig(**COMMON, classes=5)


def weights(config: VidTrConfig | SequenceConfig) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return build_network(config).state_dict()


@pytest.mark.parametrize("config", [GRID, SPATIAL, SEQUENCE], ids=["grid", "spatial", "sequence"])
def test_weights_that_fit_are_taken_bit_for_bit(config: VidTrConfig | SequenceConfig) -> None:
    source, network = weights(config), build_network(config)
    start_from(network, source)
    assert all(torch.equal(tensor, source[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("config", [GRID, SPATIAL, SEQUENCE], ids=["grid", "spatial", "sequence"])
@pytest.mark.parametrize("change", [{"frames": 8}, {"frames": 2}, {"height": 64, "width": 64}], ids=str)
def test_another_number_of_frames_or_size_runs(config: VidTrConfig | SequenceConfig, change: dict[str, Any]) -> None:
    network = build_network(replace(config, **change)).eval()
    start_from(network, weights(config))
    size = network.config
    clips = torch.randn(1, 3, size.frames, size.height, size.width)
    assert network(clips).logits.isfinite().all()


@pytest.mark.parametrize("config", [GRID, SEQUENCE], ids=["grid", "sequence"])
def test_a_table_that_is_linear_in_time_stays_linear(config: VidTrConfig | SequenceConfig) -> None:
    source = weights(config)
    first, per_row = (config.columns, config.columns) if isinstance(config, VidTrConfig) else (1, config.locations)
    ramp = torch.arange(4.0).repeat_interleave(per_row)[:, None].expand(-1, 8)
    source["pos_embedding"][0, first:] = ramp
    network = build_network(replace(config, frames=8))
    start_from(network, source)
    rows = network.state_dict()["pos_embedding"][0, first:, 0].view(8, per_row)
    # Frames 8 lie at the quarters between frames 4, and the outermost repeat the edge.
    torch.testing.assert_close(rows[:, -1], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_the_row_and_column_of_class_tokens_are_never_mixed_with_others() -> None:
    source = weights(GRID)
    table = source["pos_embedding"].view(5, 17, 8)
    table[0], table[:, 0] = 100.0, 100.0
    table[1:, 1:] = 0.0
    network = build_network(replace(GRID, frames=8, height=64, width=64))
    start_from(network, source)
    resized = network.state_dict()["pos_embedding"].view(9, 65, 8)
    torch.testing.assert_close(resized[1:, 1:], torch.zeros(8, 64, 8))
    torch.testing.assert_close(resized[0], torch.full((65, 8), 100.0))


def test_another_number_of_classes_keeps_the_networks_own_head() -> None:
    network = build_network(replace(GRID, classes=3))
    head = network.fc.weight.clone()
    source = weights(GRID)
    start_from(network, source)
    assert torch.equal(network.fc.weight, head)
    assert torch.equal(network.state_dict()["cls_s"], source["cls_s"])


def test_a_missing_weight_is_named() -> None:
    source = weights(GRID)
    del source["encoder.norm.bias"]
    with pytest.raises(CheckpointMismatch, match=r"missing encoder\.norm\.bias"):
        start_from(build_network(replace(GRID, frames=8)), source)


def test_a_sequence_that_shares_neither_frames_nor_locations_is_refused() -> None:
    source = weights(replace(SEQUENCE, frames=3))
    with pytest.raises(CheckpointError, match="48 tokens, neither for 5 frames nor for 9 locations"):
        start_from(build_network(replace(SEQUENCE, frames=5, height=24, width=24)), source)
