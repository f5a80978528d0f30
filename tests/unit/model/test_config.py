"""A configuration that cannot work is refused at construction, in words that name the field."""

from typing import Any

import pytest

from tests.unit.model.networks import tiny_config


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
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_an_empty_schedule_is_plain_vidtr() -> None:
    assert tiny_config().form == "vidtr"


def test_a_pooling_schedule_makes_it_compact() -> None:
    assert tiny_config(pooling=((0, 4),)).form == "cvidtr_paper"


def test_locations_are_counted_on_a_grid_that_need_not_be_square() -> None:
    assert tiny_config(height=16, width=40).locations == 2 * 5
