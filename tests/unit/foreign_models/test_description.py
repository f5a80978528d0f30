from pathlib import Path
from typing import Any

import pytest

from service.foreign_models.description import Description, ForeignModelError, describe, read_description

SAID: dict[str, Any] = {"labels": ["a", "b"], "frames": 8, "size": 64}


def test_one_number_is_both_sides() -> None:
    described = describe(SAID)
    assert (described.height, described.width, described.resize_short_side) == (64, 64, 64)


def test_sizes_are_spelled_as_on_the_command_line_and_as_lists() -> None:
    for size in ("48x64", [48, 64]):
        described = describe(SAID | {"size": size, "short_side": 60})
        assert (described.height, described.width, described.resize_short_side) == (48, 64, 60)


@pytest.mark.parametrize(("layout", "shape"), [("NCTHW", (2, 3, 8, 48, 64)), ("NTCHW", (2, 8, 3, 48, 64))])
def test_a_layout_orders_the_axes(layout: str, shape: tuple[int, ...]) -> None:
    assert describe(SAID | {"size": "48x64", "layout": layout}).input_shape(2) == shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "big"}, "size must be 'SIDE' or 'HEIGHTxWIDTH' in pixels, not 'big'"),
        ({"frames": 0}, "frames: Input should be greater than 0, not 0"),
        ({"short_side": 32}, "short_side must be at least 64, the short side of the clips, not 32"),
        ({"std": [1, 0, 1]}, "std: Value error, must be above 0, not 0"),
        ({"dtype": "int8"}, "dtype: Input should be 'float32' or 'uint8', not 'int8'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted, not 'red'"),
        ({"embedding": 0}, "embedding and logits must be two outputs, not both 0"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ForeignModelError) as refusal:
        describe(SAID | changes)
    assert message in str(refusal.value)


def test_what_no_file_says_must_be_given() -> None:
    with pytest.raises(ForeignModelError, match="labels, size must be given"):
        describe({"frames": 8})


def test_labels_that_repeat_are_refused_by_the_card() -> None:
    described: Description = describe(SAID | {"labels": ["a", "a"]})
    with pytest.raises(ForeignModelError, match="labels must be given, each once"):
        _ = described.card


def test_a_file_that_is_no_toml_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text("labels = [")
    with pytest.raises(ForeignModelError, match=r"card\.toml is no TOML file"):
        read_description(path)
