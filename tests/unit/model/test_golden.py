"""The networks reproduce the authors' implementation on its own numbers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from service.model.attention import Attended, SharedProjectionAttention, separable_attention
from service.model.config import VidTrConfig
from service.model.vidtr import VidTr

EXCERPT = Path(__file__).parents[2] / "data" / "golden"
FULL = Path(__file__).parents[4] / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}


def load(path: Path) -> Golden:
    if not path.exists():
        pytest.skip(f"{path.name} in full is not here")
    with safe_open(path, "pt") as file:
        meta = {key: json.loads(value) for key, value in file.metadata().items()}
        return Golden(meta, {key: file.get_tensor(key) for key in file.keys()})


@pytest.fixture(
    params=[EXCERPT / "vidtr_t16_layerpos", FULL / "vidtr_t16_layerpos", FULL / "vidtr_t8"],
    ids=["t16_excerpt", "t16", "t8"],
)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param.with_suffix(".safetensors"))


def build(golden: Golden) -> VidTr:
    m = golden.meta
    config = VidTrConfig(
        height=m["H"],
        width=m["W"],
        frames=m["T"],
        patch=m["patch"][0],
        depth=m["num_encoder_layers"],
        heads=m["nhead"],
        dim=m["d_model"],
        mlp_dim=m["dim_feedforward"],
        classes=m["classes"],
        qkv="shared",
        positions="every_layer" if m["T"] == 16 else "first_layer",
        activation="relu",
    )
    network = VidTr(config).eval()
    network.load_state_dict(golden.group("param."))
    return network


@pytest.fixture
def network(golden: Golden) -> VidTr:
    return build(golden)


def test_the_released_parameter_names_and_shapes_are_ours(golden: Golden, network: VidTr) -> None:
    ours = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert ours == {name: tuple(t.shape) for name, t in golden.group("param.").items()}


def test_golden_logits_are_reproduced_in_float32(golden: Golden, network: VidTr) -> None:
    with torch.inference_mode():
        logits = network(golden.tensors["input"]).logits
    torch.testing.assert_close(logits, golden.tensors["out.logits"], atol=1e-5, rtol=0)


def test_golden_logits_are_reproduced_in_float64(golden: Golden, network: VidTr) -> None:
    with torch.inference_mode():
        logits = network.double()(golden.tensors["input"].double()).logits
    torch.testing.assert_close(logits, golden.tensors["out.logits_f64"], atol=1e-9, rtol=0)


def test_golden_outputs_of_the_layers_are_reproduced(golden: Golden, network: VidTr) -> None:
    outputs: dict[str, Tensor] = {}
    for i, layer in enumerate(network.encoder.layers):
        key = f"out.layer{i}.out"
        layer.register_forward_hook(lambda _m, _i, output, key=key: outputs.update({key: output[0]}))
    with torch.inference_mode():
        network(golden.tensors["input"])
    expected = {key: t for key, t in golden.tensors.items() if key in outputs}
    assert expected
    for key, tensor in expected.items():
        torch.testing.assert_close(outputs[key], tensor, atol=2e-4, rtol=0, msg=lambda m, key=key: f"{key}: {m}")


def test_golden_temporal_maps_are_reproduced(golden: Golden, network: VidTr) -> None:
    maps: dict[str, Tensor] = {}
    for i, layer in enumerate(network.encoder.layers):
        key = f"out.layer{i}.attn_t"
        layer.self_attn.register_forward_hook(lambda _m, _i, output, key=key: maps.update({key: output.temporal}))
    with torch.inference_mode():
        network(golden.tensors["input"])
    expected = {key: t for key, t in golden.tensors.items() if key in maps}
    assert expected
    for key, tensor in expected.items():
        torch.testing.assert_close(maps[key], tensor, atol=1e-5, rtol=0, msg=lambda m, key=key: f"{key}: {m}")


def test_golden_gradients_are_reproduced() -> None:
    golden = load(FULL / "vidtr_t8.safetensors")
    network = build(golden)
    F.cross_entropy(network(golden.tensors["input"]).logits, golden.tensors["labels"]).backward()
    expected = golden.group("grad.")
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], atol=1e-5, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.fixture(params=[EXCERPT, FULL], ids=["excerpt", "full"])
def modules(request: pytest.FixtureRequest) -> Golden:
    return load(request.param / "attention_modules.safetensors")


def attend(modules: Golden, *, keep: int | None) -> Attended:
    attention = separable_attention(
        modules.meta["d_model"],
        modules.meta["nhead"],
        separate=False,
        dropout=0.0,
        keep=keep,
        selection="head_location",
        second_softmax=True,
    ).eval()
    assert isinstance(attention, SharedProjectionAttention)
    attention.load_state_dict(modules.group("param."))
    with torch.inference_mode():
        attended: Attended = attention(modules.tensors["dual_pool.in"])
    return attended


@pytest.fixture
def pooled(modules: Golden) -> Attended:
    return attend(modules, keep=modules.meta["T"] - modules.meta["k_dropped"])


def test_the_golden_attention_module_without_pooling_is_reproduced(modules: Golden) -> None:
    tokens = attend(modules, keep=None).tokens
    torch.testing.assert_close(tokens, modules.tensors["dual.out"], atol=1e-5, rtol=0)


def test_the_golden_choice_of_frames_is_exact(modules: Golden, pooled: Attended) -> None:
    assert pooled.rows is not None
    assert torch.equal(pooled.rows[..., 1:] - 1, modules.tensors["dual_pool.topk_idx"].long())


def test_the_golden_pooled_map_is_the_one_after_the_second_softmax(modules: Golden, pooled: Attended) -> None:
    torch.testing.assert_close(pooled.temporal, modules.tensors["dual_pool.attn_t"], atol=1e-5, rtol=0)


def test_the_golden_pooled_output_is_reproduced(modules: Golden, pooled: Attended) -> None:
    torch.testing.assert_close(pooled.tokens, modules.tensors["dual_pool.out"], atol=1e-5, rtol=0)
