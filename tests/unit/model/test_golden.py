"""The networks reproduce the authors' implementation on its own numbers."""

import functools

import pytest
import torch
from torch import Tensor

from service.model.attention import Attended, SharedProjectionAttention, SpatialFirstAttention
from service.model.pooling import TopKStd
from tests.unit.model.golden import EXCERPT, FULL, Golden, build, gradients, load, named, observe

EXCERPTS = ("vidtr_t16_layerpos", "vanilla_t8", "hybrid_t8", "cvidtr_s")
FILES = ("vidtr_t8", "vidtr_t16_layerpos", "vanilla_t8", "hybrid_t8", "cvidtr_s", "cvidtr_m")


@pytest.fixture(params=[*(f"{name}_excerpt" for name in EXCERPTS), *FILES])
def golden(request: pytest.FixtureRequest) -> Golden:
    return named(request.param)


@pytest.fixture(params=FILES)
def full(request: pytest.FixtureRequest) -> Golden:
    return named(request.param)


def compare(seen: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for key, tensor in expected.items():
        torch.testing.assert_close(
            seen[key], tensor, atol=tolerance, rtol=0, msg=functools.partial("{}: {}".format, key)
        )


def test_the_released_parameter_names_and_shapes_are_ours(golden: Golden) -> None:
    ours = {name: tuple(p.shape) for name, p in build(golden).named_parameters()}
    assert ours == {name: tuple(t.shape) for name, t in golden.group("param.").items()}


def test_golden_logits_are_reproduced_in_float32(golden: Golden) -> None:
    with torch.inference_mode():
        logits = build(golden)(golden.tensors["input"]).logits
    torch.testing.assert_close(logits, golden.tensors["out.logits"], atol=1e-5, rtol=0)


def test_golden_logits_are_reproduced_in_float64(golden: Golden) -> None:
    with torch.inference_mode():
        logits = build(golden).double()(golden.tensors["input"].double()).logits
    torch.testing.assert_close(logits, golden.tensors["out.logits_f64"], atol=1e-9, rtol=0)


def test_golden_outputs_of_the_layers_are_reproduced(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = golden.ending(".out")
    assert expected
    seen = observe(build(golden), golden.tensors["input"], monkeypatch)
    compare({key: seen[key].view_as(tensor) for key, tensor in expected.items()}, expected, 2e-4)


def test_golden_outputs_of_the_attention_are_reproduced(full: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {key: t.flatten(1, -2) for key, t in full.ending(".attn_out").items()}
    assert expected
    seen = observe(build(full), full.tensors["input"], monkeypatch)
    # Where the class token passes a layer by, the attention's own output is that of the patches.
    compare(seen, {key: tensor[:, -seen[key].size(1) :] for key, tensor in expected.items()}, 2e-4)


def test_golden_patches_are_reproduced(full: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = full.tensors["out.stem"].flatten(3).permute(0, 2, 3, 1)  # (N, C, T, gh, gw) -> (N, T, S, C)
    compare(observe(build(full), full.tensors["input"], monkeypatch), {"stem": stem}, 1e-5)


def test_the_golden_feature_that_is_classified_is_reproduced(full: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"feature": full.tensors["out.feature"]}
    compare(observe(build(full), full.tensors["input"], monkeypatch), expected, 2e-4)


@pytest.mark.parametrize("name", ["vidtr_t16_layerpos_excerpt", "hybrid_t8_excerpt", "cvidtr_s_excerpt", *FILES])
def test_golden_maps_are_reproduced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = named(name)
    kinds = (".attn_t", ".attn_t_full", ".attn_s", ".attn_joint_headmean")
    expected = {key: tensor for kind in kinds for key, tensor in golden.ending(kind).items()}
    assert expected
    seen = observe(build(golden), golden.tensors["input"], monkeypatch)
    compare(seen, expected, 1e-5)


@pytest.mark.parametrize("name", ["cvidtr_s", "cvidtr_m"])
def test_golden_deviations_are_reproduced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = named(name)
    expected = golden.ending(".std")
    assert expected
    compare(observe(build(golden), golden.tensors["input"], monkeypatch), expected, 1e-5)


@pytest.mark.parametrize("name", ["cvidtr_s_excerpt", "cvidtr_s", "cvidtr_m"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_golden_choices_of_released_cvidtr_are_exact(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = named(name)
    expected = golden.ending(".topk_idx")
    assert len(expected) == 3
    seen = observe(build(golden).to(dtype), golden.tensors["input"].to(dtype), monkeypatch)
    assert all(torch.equal(seen[key], tensor.long()) for key, tensor in expected.items())


@pytest.mark.parametrize("name", ["vanilla_t8", "hybrid_t8", "cvidtr_s"])
def test_the_class_token_reports_its_row_of_the_golden_joint_map(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = named(name)
    ((key, tensor),) = golden.ending(".attn_joint_headmean").items()
    seen = observe(build(golden), golden.tensors["input"], monkeypatch)
    ours = seen[key.replace("attn_joint_headmean", "class_weights")]
    torch.testing.assert_close(ours, tensor[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["vidtr_t8", "cvidtr_s"])
def test_golden_gradients_are_reproduced(name: str) -> None:
    golden = named(name)
    expected = golden.group("grad.")
    seen = gradients(build(golden), golden)
    assert set(seen) == set(expected)
    compare(seen, expected, 1e-5)


@pytest.fixture(params=[EXCERPT, FULL], ids=["excerpt", "full"])
def modules(request: pytest.FixtureRequest) -> Golden:
    return load(request.param / "attention_modules.safetensors")


def attend(modules: Golden, x: Tensor, *, keep: int | None = None, kind: type = SharedProjectionAttention) -> Attended:
    dim, heads = modules.meta["d_model"], modules.meta["nhead"]
    if kind is SpatialFirstAttention:
        attention: SharedProjectionAttention | SpatialFirstAttention = SpatialFirstAttention(dim, heads, 0.0)
    else:
        pool = None if keep is None else TopKStd(keep, "head_location", second_softmax=True)
        attention = SharedProjectionAttention(dim, heads, 0.0, pool)
    attention.eval().load_state_dict(modules.group("param."))
    with torch.inference_mode():
        attended: Attended = attention(x)
    return attended


@pytest.fixture
def pooled(modules: Golden) -> Attended:
    return attend(modules, modules.tensors["dual_pool.in"], keep=modules.meta["T"] - modules.meta["k_dropped"])


def test_the_golden_attention_module_without_pooling_is_reproduced(modules: Golden) -> None:
    tokens = attend(modules, modules.tensors["dual_pool.in"]).tokens
    torch.testing.assert_close(tokens, modules.tensors["dual.out"], atol=1e-5, rtol=0)


def test_the_golden_choice_of_frames_is_exact(modules: Golden, pooled: Attended) -> None:
    assert pooled.rows is not None
    assert torch.equal(pooled.rows[..., 1:] - 1, modules.tensors["dual_pool.topk_idx"].long())


def test_the_golden_pooled_map_is_the_one_after_the_second_softmax(modules: Golden, pooled: Attended) -> None:
    torch.testing.assert_close(pooled.temporal, modules.tensors["dual_pool.attn_t"], atol=1e-5, rtol=0)


def test_the_golden_pooled_output_is_reproduced(modules: Golden, pooled: Attended) -> None:
    torch.testing.assert_close(pooled.tokens, modules.tensors["dual_pool.out"], atol=1e-5, rtol=0)


def test_the_golden_module_with_spatial_class_tokens_only_is_reproduced(modules: Golden) -> None:
    tokens = attend(modules, modules.tensors["spatial_token_only.in"]).tokens
    torch.testing.assert_close(tokens, modules.tensors["spatial_token_only.out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "kind"), [("temporal_first", SharedProjectionAttention), ("spatial_first", SpatialFirstAttention)]
)
def test_the_golden_module_without_class_tokens_is_reproduced_in_both_orders(
    modules: Golden, name: str, kind: type
) -> None:
    patches = modules.tensors["spatial_first.in"][:, 1:].unflatten(1, (modules.meta["T"], modules.meta["S"]))
    tokens = attend(modules, patches, kind=kind).tokens
    torch.testing.assert_close(tokens.flatten(1, 2), modules.tensors[f"{name}.out"][:, 1:], atol=1e-5, rtol=0)
