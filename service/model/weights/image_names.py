"""Names and layouts of public image ViT checkpoints, brought to those of the released video weights.

Three spellings are known: the flat one of the released `vit_inflate.pth`, that of timm, and that of Google's NumPy
archives. In the first two a linear map is stored (out, in); Google stores (in, out) with the heads split off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from service.model.weights.checkpoint import CheckpointError

Weights = dict[str, Tensor]

_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_TIMM = {
    "patch_embed.proj.bias": "conv_stem.bias",
    "cls_token": "cls",
    "pos_embed": "pos_embedding",
    "norm.weight": "encoder.norm.weight",
    "norm.bias": "encoder.norm.bias",
}
_TIMM_IN_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.qkv": "self_attn.in_proj_",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
}
_GOOGLE_BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/")


def to_video_names(weights: Mapping[str, Tensor]) -> Weights:
    """The weights under the names of the video networks: `conv_stem.weight` is 5-D, (d, 3, 1, p, p), `cls` (1, 1, d),

    `pos_embedding` (1, S+1, d). Entries with no place in a video network, such as timm's head, keep their names.

    Raises CheckpointError where no known spelling fits, or an entry of it is missing.
    """
    spellings: tuple[tuple[str, Callable[[Mapping[str, Tensor]], Weights]], ...] = (
        ("conv_stem.weight", dict),
        ("patch_embed.proj.weight", _from_timm),
        ("embedding/kernel", _from_google),
    )
    for key, convert in spellings:
        if key in weights:
            return convert(weights)
    raise CheckpointError(
        f"no image ViT of a known kind: none of {', '.join(key for key, _ in spellings)} is among the weights"
    )


def _from_timm(weights: Mapping[str, Tensor]) -> Weights:
    return dict(_timm_entry(name, tensor) for name, tensor in weights.items())


def _timm_entry(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    if name == "patch_embed.proj.weight":
        return "conv_stem.weight", tensor.unsqueeze(2)
    if match := _TIMM_BLOCK.fullmatch(name):
        part, _, kind = match[2].rpartition(".")
        if part in _TIMM_IN_BLOCK:
            target = _TIMM_IN_BLOCK[part]
            return f"encoder.layers.{match[1]}.{target}{'' if target.endswith('_') else '.'}{kind}", tensor
    return _TIMM.get(name, name), tensor


def _from_google(weights: Mapping[str, Tensor]) -> Weights:
    taken: set[str] = set()

    def take(key: str) -> Tensor:
        if key not in weights:
            raise CheckpointError(f"missing {key}")
        taken.add(key)
        return weights[key]

    def linear(source: str, target: str) -> Weights:
        return {f"{target}.weight": take(f"{source}/kernel").T, f"{target}.bias": take(f"{source}/bias")}

    def norm(source: str, target: str) -> Weights:
        return {f"{target}.weight": take(f"{source}/scale"), f"{target}.bias": take(f"{source}/bias")}

    def attention(source: str, target: str) -> Weights:
        parts = [f"{source}/{part}" for part in ("query", "key", "value")]
        return {
            f"{target}.in_proj_weight": torch.cat([take(f"{part}/kernel").flatten(1).T for part in parts]),  # (3d, d)
            f"{target}.in_proj_bias": torch.cat([take(f"{part}/bias").flatten() for part in parts]),  # (3d,)
            f"{target}.out_proj.weight": take(f"{source}/out/kernel").flatten(0, 1).T,  # (h, c, d) -> (d, d)
            f"{target}.out_proj.bias": take(f"{source}/out/bias"),
        }

    video: Weights = {
        "conv_stem.weight": take("embedding/kernel")
        .permute(3, 2, 0, 1)
        .unsqueeze(2),  # (p, p, 3, d) -> (d, 3, 1, p, p)
        "conv_stem.bias": take("embedding/bias"),
        "cls": take("cls"),
        "pos_embedding": take("Transformer/posembed_input/pos_embedding"),
        **norm("Transformer/encoder_norm", "encoder.norm"),
    }
    for layer in _layers(weights):
        source, target = f"Transformer/encoderblock_{layer}", f"encoder.layers.{layer}"
        video |= norm(f"{source}/LayerNorm_0", f"{target}.norm1")
        video |= attention(f"{source}/MultiHeadDotProductAttention_1", f"{target}.self_attn")
        video |= norm(f"{source}/LayerNorm_2", f"{target}.norm2")
        video |= linear(f"{source}/MlpBlock_3/Dense_0", f"{target}.linear1")
        video |= linear(f"{source}/MlpBlock_3/Dense_1", f"{target}.linear2")
    return video | {key: tensor for key, tensor in weights.items() if key not in taken}


def _layers(keys: Iterable[str]) -> list[int]:
    return sorted({int(match[1]) for key in keys if (match := _GOOGLE_BLOCK.match(key))})
