"""One wrong detail moves the golden logits beyond their tolerance, so that the golden tests would notice it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from service.model import attention, layers, pooling
from service.model.factory import Network
from service.model.pooling import TopKStd
from service.model.sequence import BypassedLayer
from tests.unit.model.golden import Golden, build, named
from tests.unit.model.networks import layers as encoder_layers

VIDTR, VANILLA, HYBRID, CVIDTR = "vidtr_t16_layerpos", "vanilla_t8", "hybrid_t8", "cvidtr_s"
ALL = (VIDTR, VANILLA, HYBRID, CVIDTR)


@dataclass
class Case:
    golden: Golden
    network: Network
    clips: Tensor
    patch: pytest.MonkeyPatch


Mutation = Callable[[Case], None]


def configured(**changes: Any) -> Mutation:
    def mutate(case: Case) -> None:
        case.network = build(case.golden, **changes)

    return mutate


def pools(network: Network) -> list[TopKStd]:
    return [module for module in network.modules() if isinstance(module, TopKStd)]


def without_the_second_softmax(case: Case) -> None:
    for pool in pools(case.network):
        pool.second_softmax = False


def selecting(scope: str) -> Mutation:
    def mutate(case: Case) -> None:
        for pool in pools(case.network):
            pool.selection = scope

    return mutate


def selecting_for_each_head(case: Case) -> None:
    def choose(attention: Tensor, keep: int, _selection: str, _class_row: bool) -> Tensor:
        sigma = attention.std(dim=-1).mean(dim=2, keepdim=True).expand(attention.shape[:4])
        return sigma.topk(keep, dim=-1)[1].sort(dim=-1)[0]

    case.patch.setattr(pooling, "topk_std", choose)


def without_sorting(case: Case) -> None:
    def choose(attention: Tensor, keep: int, _selection: str, _class_row: bool) -> Tensor:
        return attention.std(dim=-1).topk(keep, dim=-1)[1]

    case.patch.setattr(pooling, "topk_std", choose)


def values_without_positions(case: Case) -> None:
    normed: list[Tensor] = []
    project = layers.project

    def project_again(x: Tensor, weight: Tensor, bias: Tensor, part: int) -> Tensor:
        return project(normed[-1] if part == 2 else x, weight, bias, part)

    for layer in encoder_layers(case.network):
        layer.norm1.register_forward_hook(lambda _m, _i, output: normed.append(output))
    case.patch.setattr(attention, "project", project_again)


def positions_in_the_residual_stream(case: Case) -> None:
    def on_grid(_module: Any, arguments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, positions = arguments
        return x + positions, torch.zeros_like(positions)

    def on_sequence(_module: Any, arguments: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        cls, x, positions = arguments
        placed = x + positions[:, 1:].view(1, *x.shape[1:])
        return cls + positions[:, :1], placed, torch.zeros_like(positions)

    hook: Any = on_grid if case.golden.meta["kind"] == "vidtr" else on_sequence
    case.network.encoder.register_forward_pre_hook(hook)


def class_token_not_passed_through(case: Case) -> None:
    def forget(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
        return torch.zeros_like(output) if output.size(1) == 1 else output

    for layer in case.network.encoder.layers:
        if isinstance(layer, BypassedLayer):
            layer.norm1.register_forward_hook(forget)


def residual_of_the_first_frames(case: Case) -> None:
    case.patch.setattr(pooling, "take_token_rows", lambda x, rows: x[:, : rows.size(-1)])


def patches_in_column_order(case: Case) -> None:
    height, width, patch = (case.golden.meta[key] for key in ("H", "W", "patch"))
    grid = (height // patch[0], width // patch[1])
    case.network.conv_stem.register_forward_hook(
        lambda _m, _i, output: output.unflatten(2, grid).transpose(2, 3).flatten(2, 3)
    )


def pixels_in_column_order(case: Case) -> None:
    weight = case.network.conv_stem.weight
    weight.data = weight.data.transpose(-1, -2).contiguous()


def blue_before_red(case: Case) -> None:
    case.clips = case.clips.flip(1)


MUTATIONS: list[tuple[Mutation, str, tuple[str, ...]]] = [
    (configured(activation="gelu"), "gelu", ALL),
    (configured(ln_eps=1e-6), "layer norm eps of 1e-6", ALL),
    (without_the_second_softmax, "a single softmax in pooling", (CVIDTR,)),
    (selecting("location"), "deviations averaged over heads", (CVIDTR,)),
    (selecting_for_each_head, "deviations averaged over locations", (CVIDTR,)),
    (selecting("frame"), "deviations averaged over both", (CVIDTR,)),
    (without_sorting, "chosen frames unsorted", (CVIDTR,)),
    (residual_of_the_first_frames, "residual not gathered", (CVIDTR,)),
    (values_without_positions, "values without positions", (VIDTR,)),
    (configured(joint_value_positions=True), "joint values with positions", (VANILLA,)),
    (positions_in_the_residual_stream, "positions in the residual stream", ALL),
    (configured(positions="first_layer"), "positions in the first layer only", (VIDTR,)),
    (configured(positions="every_layer"), "positions in every layer", (VANILLA, HYBRID)),
    (class_token_not_passed_through, "class token not passed through", (HYBRID, CVIDTR)),
    (patches_in_column_order, "patches in column order", ALL),
    (pixels_in_column_order, "pixels in column order", ALL),
    (blue_before_red, "blue before red", ALL),
]


def agrees(case: Case) -> bool:
    """Whether the logits pass both gates of the golden tests."""
    expected = case.golden.tensors
    with torch.inference_mode():
        single = case.network(case.clips).logits
        double = case.network.double()(case.clips.double()).logits
    return torch.allclose(single, expected["out.logits"], atol=1e-5, rtol=0) and torch.allclose(
        double, expected["out.logits_f64"], atol=1e-9, rtol=0
    )


def case_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    golden = named(f"{name}_excerpt")
    return Case(golden, build(golden), golden.tensors["input"], monkeypatch)


@pytest.mark.parametrize("name", ALL)
def test_without_a_mutation_the_golden_logits_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agrees(case_of(name, monkeypatch))


@pytest.mark.parametrize(
    ("mutate", "name"),
    [pytest.param(mutate, name, id=f"{detail} in {name}") for mutate, detail, names in MUTATIONS for name in names],
)
def test_the_golden_logits_notice_a_wrong_detail(mutate: Mutation, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(name, monkeypatch)
    mutate(case)
    assert not agrees(case)
