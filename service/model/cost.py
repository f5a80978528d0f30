"""What a network costs: parameters, tokens, floating-point operations, and the memory that training keeps.

Everything is measured by running the network on meta tensors, which have shapes but no data, so that a network of any
size takes a second and no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network, build_network, for_inference

Config = VidTrConfig | SequenceConfig

Maps = Literal["materialized", "fused"]
"""Attention maps that are built and kept, as in the released code, or computed block by block and never whole."""

_FLOAT32 = 4
# Gradients and momentum have the size of the weights.
_COPIES_OF_WEIGHTS = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one clip. A multiply-add counts as two FLOPs."""

    parameters: int
    tokens: tuple[int, ...]
    """Tokens that enter the MLP of each layer, class tokens included."""
    training_flops: int
    """Of a forward in training mode, which computes every token of every layer."""
    inference_flops: int
    """Of a forward as it is served, which leaves out what no output depends on."""


def measure(config: Config) -> Cost:
    """Cost of the network of `config`."""
    network = _on_meta(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    mlps = [network.get_submodule(f"encoder.layers.{layer}.linear1") for layer in range(config.depth)]
    entered: Counter[nn.Module] = Counter()

    def note_tokens(mlp: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # A sum, because the class token may pass through the MLP apart from the others.
        entered[mlp] += inputs[0].numel() // config.dim

    hooks = [mlp.register_forward_pre_hook(note_tokens) for mlp in mlps]
    training_flops = _flops(network.train())
    for hook in hooks:
        hook.remove()
    return Cost(
        parameters=parameters,
        tokens=tuple(entered[mlp] for mlp in mlps),
        training_flops=training_flops,
        inference_flops=_flops(for_inference(network)),
    )


def count_parameters(config: Config) -> int:
    """Parameters of the network of `config`."""
    return sum(parameter.numel() for parameter in _on_meta(config).parameters())


def activation_bytes(config: Config, maps: Maps, *, dropout: bool) -> int:
    """Bytes that a training forward of one float32 clip keeps for the backward pass, parameters excluded.

    Each storage counts once, however many operations keep it. With `dropout` the rates are those of `config`, and
    masks take one byte per element, as they do on a GPU.
    """
    network = _on_meta(config if dropout else replace(config, dropout=0.0, head_dropout=0.0)).train()
    # Meta storages all have the address 0, so they are told apart by their own identity, and held while that counts.
    parameters = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = storage
        return tensor

    with _TrainingOps(maps), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(_clip(network))
    return sum(storage.nbytes() for storage in kept.values())


def training_bytes(config: Config, maps: Maps, *, dropout: bool) -> int:
    """Activations as `activation_bytes` counts them, and float32 weights, gradients and momentum."""
    return activation_bytes(config, maps, dropout=dropout) + _COPIES_OF_WEIGHTS * _FLOAT32 * count_parameters(config)


class _TrainingOps(TorchFunctionMode):
    """Chooses the kernels of attention and dropout, which on meta tensors are not those of a GPU."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        self._replaced: dict[Callable[..., Any], Callable[..., Any]] = {
            F.scaled_dot_product_attention: _materialized_attention if maps == "materialized" else _fused_attention,
            F.dropout: _masked_dropout,
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        chosen: Callable[..., Any] = self._replaced.get(func, func)
        return chosen(*args, **(kwargs or {}))


def _materialized_attention(query: Tensor, key: Tensor, value: Tensor, *, dropout_p: float = 0.0) -> Tensor:
    scores = torch.matmul(query * query.size(-1) ** -0.5, key.transpose(-2, -1))
    return torch.matmul(_masked_dropout(scores.softmax(dim=-1), dropout_p), value)


def _fused_attention(query: Tensor, key: Tensor, value: Tensor, *, dropout_p: float = 0.0) -> Tensor:
    # The fused kernel for float32. In place of maps and masks it keeps a float per query and the state of the random
    # generator.
    output: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True, dropout_p)[0]
    return output


def _masked_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def _on_meta(config: Config) -> Network:
    with torch.device("meta"):
        return build_network(config)


def _clip(network: Network) -> Tensor:
    config = network.config
    return torch.empty(1, 3, config.frames, config.height, config.width, device="meta")


def _flops(network: Network) -> int:
    # The counter follows gradients through modules where there are any, and cannot where they are switched off.
    network.requires_grad_(False)
    with _TrainingOps("materialized"), FlopCounterMode(display=False) as counter:
        network(_clip(network))
    return int(counter.get_total_flops())
