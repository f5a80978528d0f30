"""A configuration that cannot work is refused at construction, in words that name the field."""

from typing import Any

import pytest

from service.model.factory import build_network
from service.model.sequence import SequenceVidTr
from service.model.vidtr import VidTr
from tests.unit.model.networks import HALVED, POOLED, RELEASED, VARIANTS, tiny_config, tiny_sequence_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, r"heads \(3\) must divide dim \(16\)"),
        ({"height": 20}, r"height \(20\) must be a multiple of patch \(8\)"),
        ({"width": 30}, r"width \(30\) must be a multiple of patch \(8\)"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"pooling": ((1, 0),)}, "pooling layer 1 would drop all frames"),
        ({"pooling": ((1, 6),)}, "it keeps 6 of 6"),
        ({"pooling": ((0, 4), (1, 5))}, "pooling layer 1 must drop frames: it keeps 5 of 4"),
        ({"pooling": ((3, 4),)}, r"pooling layer 3 is outside 0 \.\. 2"),
        ({"pooling": ((2, 4), (1, 2))}, r"must ascend without repeats, not \[2, 1\]"),
        ({"pooling": ((1, 4), (1, 2))}, r"must ascend without repeats, not \[1, 1\]"),
        ({"selection": "head"}, "selection must be one of frame, location, head_location, not 'head'"),
        ({"qkv": "both"}, "qkv must be one of shared, separate"),
        ({"positions": "sinus"}, "positions must be one of tokens, first_layer, every_layer"),
        ({"activation": "silu"}, "activation must be one of relu, gelu"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"head_dropout": -0.1}, r"head_dropout must lie in \[0, 1\)"),
        ({"ln_eps": 0.0}, "ln_eps must be positive"),
        ({"positions": "every_layer", "pooling": ((0, 4),)}, "defined for an empty pooling schedule only"),
        ({"pooling_method": "max"}, "pooling_method must be one of topk_std, avg, conv"),
        ({"class_tokens": "temporal"}, "class_tokens must be one of both, spatial, none"),
        ({"order": "both"}, "order must be one of temporal_first, spatial_first"),
        ({"order": "spatial_first"}, "order='spatial_first' is defined for class_tokens='none'"),
        ({"order": "spatial_first", "class_tokens": "none", "qkv": "separate"}, "and qkv='shared' only"),
        ({"class_tokens": "spatial", **POOLED}, "pooling is defined on the grid with both class tokens"),
        ({"pooling_method": "avg"}, "pooling_method='avg' needs a pooling schedule"),
        ({"pooling_method": "conv", **HALVED, "second_softmax": True}, "second_softmax belongs to topk_std"),
        ({"pooling_method": "avg", "pooling": ((0, 4),)}, "avg pooling layer 0 must keep 3 of 6, not 4"),
        ({"pooling_method": "conv", "pooling": ((0, 3), (1, 1))}, "halves the frames, but layer 1 gets 3"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"separable_layers": 3}, r"separable_layers must lie in 0 \.\. 2, not 3: without a joint layer"),
        ({"separable_layers": -1}, r"separable_layers must lie in 0 \.\. 2"),
        ({"pooling": ((0, 4), (2, 2)), "separable_layers": 3}, "the class token sees no video"),
        ({**RELEASED, "separable_layers": 1}, "must end with the last pooling layer, at 2, not 1"),
        ({**RELEASED, "positions": "every_layer"}, "defined for an empty pooling schedule only"),
        ({"positions": "tokens"}, "positions must be one of first_layer, every_layer"),
        ({"heads": 3}, r"heads \(3\) must divide dim \(16\)"),
    ],
)
def test_a_sequence_that_cannot_work_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_sequence_config(**changes)


@pytest.mark.parametrize(
    ("variant", "form"),
    [
        ("vidtr", "vidtr"),
        ("frame", "cvidtr_paper"),
        ("avg", "cvidtr_avg"),
        ("conv", "cvidtr_conv"),
        ("spatial tokens", "vidtr_spatial_tokens"),
        ("no tokens", "vidtr_no_tokens"),
        ("spatial first", "vidtr_spatial_first"),
        ("vanilla", "vanilla"),
        ("hybrid", "hybrid"),
        ("released", "cvidtr_official"),
    ],
)
def test_every_form_has_its_name(variant: str, form: str) -> None:
    assert VARIANTS[variant].form == form


@pytest.mark.parametrize(("variant", "kind"), [("frame", VidTr), ("released", SequenceVidTr)])
def test_a_configuration_is_built_as_the_network_it_describes(variant: str, kind: type) -> None:
    network = build_network(VARIANTS[variant])
    assert isinstance(network, kind)
    assert network.config == VARIANTS[variant]


def test_locations_are_counted_on_a_grid_that_need_not_be_square() -> None:
    assert tiny_config(height=16, width=40).locations == 2 * 5
