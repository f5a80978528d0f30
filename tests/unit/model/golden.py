"""Golden vectors of the authors' implementation, the networks they belong to, and what those compute inside."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from service.model import attention
from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network, build_network
from service.model.joint_attention import JointAttention, joint_map
from service.model.pooling import TopKStd
from service.model.sequence import BypassedLayer

EXCERPT = Path(__file__).parents[2] / "data" / "golden"
FULL = Path(__file__).parents[4] / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}

    def ending(self, suffix: str) -> dict[str, Tensor]:
        """What the file expects inside the layers under names such as `layer2.attn_t`."""
        return {key: t for key, t in self.group("out.").items() if key.startswith("layer") and key.endswith(suffix)}


def load(path: Path) -> Golden:
    if not path.exists():
        pytest.skip(f"{path.name} in full is not here")
    with safe_open(path, "pt") as file:
        meta = {key: json.loads(value) for key, value in file.metadata().items()}
        return Golden(meta, {key: file.get_tensor(key) for key in file.keys()})


def named(name: str) -> Golden:
    """The excerpt of a model file, as `vanilla_t8_excerpt`, or all of it, as `vanilla_t8`."""
    whole = name.removesuffix("_excerpt")
    return load((FULL if whole == name else EXCERPT) / f"{whole}.safetensors")


def config_of(golden: Golden, **changes: Any) -> VidTrConfig | SequenceConfig:
    m = golden.meta
    common: dict[str, Any] = {
        "height": m["H"],
        "width": m["W"],
        "frames": m["T"],
        "patch": m["patch"][0],
        "depth": m["num_encoder_layers"],
        "heads": m["nhead"],
        "dim": m["d_model"],
        "mlp_dim": m["dim_feedforward"],
        "classes": m["classes"],
        "activation": "relu",
        "positions": "first_layer",
    }
    if m["kind"] == "vidtr":
        positions = "every_layer" if m["T"] == 16 else "first_layer"
        return VidTrConfig(**{**common, "positions": positions, "qkv": "shared", **changes})
    if m["kind"] == "cvidtr":
        alive = m["T"]
        pooling = []
        for layer, dropped in zip(m["layer_pool"], m["drops"], strict=True):
            alive -= dropped
            pooling.append((layer, alive))
        pooled = {"pooling": tuple(pooling), "separable_layers": m["layer_pool"][-1] + 1}
        return SequenceConfig(**{**common, **pooled, **changes})
    return SequenceConfig(**{**common, "separable_layers": m["merge_index"] + 1, **changes})


def build(golden: Golden, **changes: Any) -> Network:
    network = build_network(config_of(golden, **changes)).eval()
    network.load_state_dict(golden.group("param."))
    return network


def observe(network: Network, clips: Tensor, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Run the network and note what goes on inside, under the names and in the layouts of the golden files."""
    seen: dict[str, Tensor] = {}
    spatial: list[Tensor] = []
    attend = attention.spatial_attention

    def spy(query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float) -> Tensor:
        q, k = (torch.unflatten(x, -1, (heads, -1)).permute(0, 3, 1, 2, 4) for x in (query, key))  # (B, h, Q, P, c)
        spatial.append((q @ k.transpose(-1, -2) / q.size(-1) ** 0.5).softmax(dim=-1))
        return attend(query, key, value, heads, dropout)

    monkeypatch.setattr(attention, "spatial_attention", spy)

    def watch(i: int, layer: Any) -> None:
        def on_layer(_m: Any, _i: Any, output: tuple[Tensor, ...]) -> None:
            if isinstance(layer, BypassedLayer):
                cls, x = output[:2]
                seen[f"layer{i}.out"] = torch.cat([cls.expand(x.size(0), 1, -1), x.flatten(1, 2)], dim=1)
            else:
                seen[f"layer{i}.out"] = output[0] if len(output) == 4 else output[1]

        def on_attention(module: Any, arguments: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, JointAttention):
                query, key, _ = module.projections(*arguments[:2])
                seen[f"layer{i}.attn_joint_headmean"] = joint_map(query, key).mean(dim=1)
                seen[f"layer{i}.class_weights"] = output.class_weights
            else:
                seen[f"layer{i}.attn_t"] = output.temporal
                seen[f"layer{i}.attn_s"] = spatial[-1]
                if output.rows is not None:
                    seen[f"layer{i}.topk_idx"] = output.rows
            # The class token that passes a layer by is in the layer's output, not in the attention's.
            seen[f"layer{i}.attn_out"] = output.tokens.flatten(1, -2) if output.tokens.dim() == 4 else output.tokens

        def on_pool(_m: Any, arguments: tuple[Tensor, ...], _output: Any) -> None:
            seen[f"layer{i}.attn_t_full"] = arguments[0]
            seen[f"layer{i}.std"] = arguments[0].std(dim=-1)

        layer.register_forward_hook(on_layer)
        layer.self_attn.register_forward_hook(on_attention)
        pool = getattr(layer.self_attn, "pool", None)
        if isinstance(pool, TopKStd):
            pool.register_forward_hook(on_pool)

    for i, layer in enumerate(network.encoder.layers):
        watch(i, layer)
    network.conv_stem.register_forward_hook(lambda _m, _i, output: seen.update({"stem": output}))
    network.encoder.register_forward_hook(lambda _m, _i, output: seen.update({"feature": output[0]}))
    with torch.inference_mode():
        seen["logits"] = network(clips).logits
    return seen


def gradients(network: Network, golden: Golden) -> dict[str, Tensor]:
    F.cross_entropy(network(golden.tensors["input"]).logits, golden.tensors["labels"]).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
