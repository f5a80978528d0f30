"""Weights fit a network by name and shape, or are refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.model.weights import CheckpointMismatch, assign_weights, load_weights, save_weights
from tests.unit.model.weights.files import CVIDTR, RELEASED, VIDTR, logits, network

KEY = "encoder.layers.1.self_attn.in_proj_weight"


def state() -> dict[str, Tensor]:
    return dict(network(VIDTR, seed=1).state_dict())


def refused(weights: dict[str, Tensor]) -> str:
    model = network(VIDTR)
    before = logits(model)
    with pytest.raises(CheckpointMismatch) as caught:
        assign_weights(model, weights)
    assert torch.equal(logits(model), before), "a network that refused weights took some of them"
    return str(caught.value)


def test_weights_that_fit_are_taken() -> None:
    model = network(VIDTR)
    assign_weights(model, state())
    assert torch.equal(logits(model), logits(network(VIDTR, seed=1)))


def test_a_missing_key_is_named() -> None:
    weights = state()
    del weights[KEY]
    assert f"missing {KEY} (48, 16)" in refused(weights)


def test_an_extra_key_is_named() -> None:
    assert "extra encoder.layers.7.norm1.bias (16,)" in refused(
        state() | {"encoder.layers.7.norm1.bias": torch.zeros(16)}
    )


def test_a_misshapen_key_is_named_with_both_shapes() -> None:
    assert f"{KEY} is (16, 48), expected (48, 16)" in refused(state() | {KEY: torch.zeros(16, 48)})


def test_a_key_of_equal_size_but_another_shape_is_refused() -> None:
    assert "cls_s is (1, 4, 16), expected (4, 1, 16)" in refused(state() | {"cls_s": torch.zeros(1, 4, 16)})


def test_integers_are_no_weights() -> None:
    assert "fc.bias holds int64, expected floating-point numbers" in refused(
        state() | {"fc.bias": torch.zeros(5, dtype=torch.int64)}
    )


def test_all_problems_are_told_at_once() -> None:
    weights = state() | {"extra": torch.zeros(1), "fc.bias": torch.zeros(9)}
    del weights[KEY]
    message = refused(weights)
    assert all(part in message for part in (f"missing {KEY}", "extra extra", "fc.bias is (9,)"))


def test_of_many_problems_the_first_are_named_and_the_others_counted() -> None:
    message = refused({})
    assert "missing cls_s" in message
    assert message.endswith(f"and {len(state()) - 12} more")


def test_weights_of_another_form_are_refused_by_name() -> None:
    assert "missing cls_s" in refused(dict(network(CVIDTR).state_dict()))


def test_half_precision_weights_are_widened() -> None:
    model = network(VIDTR)
    assign_weights(model, {name: tensor.half() for name, tensor in state().items()})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(model), logits(network(VIDTR, seed=1)), rtol=0, atol=0.01)


@pytest.mark.parametrize("form", RELEASED)
def test_weights_come_back_from_safetensors_as_they_were(tmp_path: Path, form: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(network(RELEASED[form], seed=1), path)
    model = network(RELEASED[form])
    load_weights(model, path)
    assert torch.equal(logits(model), logits(network(RELEASED[form], seed=1)))


def test_saving_over_a_file_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(network(CVIDTR), path)
    save_weights(network(VIDTR, seed=1), path)
    model = network(VIDTR)
    load_weights(model, path)
    assert torch.equal(logits(model), logits(network(VIDTR, seed=1)))
    assert list(tmp_path.iterdir()) == [path]
