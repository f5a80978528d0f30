"""The measure by which clips without near ties are chosen."""

from typing import Any

import pytest
import torch

from benchmarks.pooling_margins import SelectionGaps, clearest_clips
from service.model.config import Selection, VidTrConfig
from service.model.factory import Network, build_network
from service.model.pooling import TopKStd
from service.model.preprocess import Normalize
from tests.unit.model.networks import Sizes, layers

SMALL: Sizes = {"height": 32, "width": 32, "frames": 6, "patch": 16, "depth": 2, "heads": 2, "dim": 16, "mlp_dim": 32}


def small_network(**changes: Any) -> Network:
    torch.manual_seed(0)
    return build_network(VidTrConfig(**SMALL, classes=3, positions="first_layer", **changes)).eval()


def moving_clips(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 6, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("selection", ["frame", "location", "head_location"])
def test_a_gap_is_zero_where_all_frames_deviate_alike(selection: Selection) -> None:
    network = small_network(pooling=((0, 3),), selection=selection)
    with torch.no_grad():
        layers(network)[0].self_attn.get_parameter("in_proj_weight").zero_()  # Every frame looks at all frames alike.
    gaps = SelectionGaps(network)
    network(Normalize()(moving_clips(2)))
    assert gaps.take().tolist() == [0.0, 0.0]


def test_the_smallest_gap_is_over_all_locations_heads_and_layers() -> None:
    network = small_network(pooling=((0, 4), (1, 2)), selection="head_location")
    maps: list[torch.Tensor] = []
    for pool in (module for module in network.modules() if isinstance(module, TopKStd)):
        pool.register_forward_pre_hook(lambda _, arguments: maps.append(arguments[0].detach()))
    gaps = SelectionGaps(network)
    network(Normalize()(moving_clips(1)))
    expected = []
    for attention, keep in zip(maps, (4, 2), strict=True):
        for rows in attention[0].flatten(0, 1):
            ranked = sorted((float(row.std()) for row in rows[1:]), reverse=True)
            expected.append(ranked[keep - 1] - ranked[keep])
    assert gaps.take().item() == pytest.approx(min(expected), abs=1e-7)


def test_the_clips_with_the_largest_gaps_are_chosen() -> None:
    network = small_network(pooling=((0, 3),), selection="head_location")
    candidates = moving_clips(8)
    gaps = SelectionGaps(network)
    network(Normalize()(candidates))
    largest = gaps.take().argsort(descending=True)[:3]
    gaps.remove()
    assert torch.equal(clearest_clips(network, candidates, 3), candidates[largest])


def test_any_clips_do_where_nothing_is_selected() -> None:
    candidates = moving_clips(3)
    assert torch.equal(clearest_clips(small_network(), candidates, 2), candidates[:2])
