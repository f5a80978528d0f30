"""A loaded TorchScript model whose linear maps run in int8: a trial, which the service does not use.

Weights are quantized once, symmetrically and per output channel; inputs at every call, by the range of the whole
tensor, as torch's dynamic quantization does. Norms, softmax, attention and residuals stay in float32. A CPU without
VNNI saturates sums of int8 in 16 bits: what is measured on one says nothing about int8.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from service.inference.cpu import Forward, rewritten
from service.inference.graph import GraphEditor, constant, fused_relu_user, inputs

Engine = Literal["onednn", "x86"]


def quantized(weight: Tensor) -> Tensor:
    """A weight `(n, k)` as per-channel qint8; rows of zeros stay zero."""
    scales = weight.abs().amax(dim=1).double().clamp(min=1e-12) / 127
    with warnings.catch_warnings():
        # Deprecated together with eager-mode quantization, but the packed kernels take no other tensors.
        warnings.simplefilter("ignore")
        return torch.quantize_per_channel(weight, scales, torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8)


def in_int8(module: torch.jit.ScriptModule, engine: Engine = "onednn") -> Forward:
    """What `service.inference.cpu.optimize_for_cpu` makes of a float32 module, with its linear maps in int8."""

    def pack(graph: Any, node: Any) -> Any:
        x, weight, bias = inputs(node)
        before, torch.backends.quantized.engine = torch.backends.quantized.engine, engine
        try:
            packed = torch.ops.quantized.linear_prepack(quantized(constant(weight)), constant(bias))
        finally:
            torch.backends.quantized.engine = before
        argument = graph.addInput()
        argument.setType(packed._type())
        relu = fused_relu_user(node)
        code = GraphEditor(graph, relu or node)
        kind = "quantized::linear_relu_dynamic" if relu else "quantized::linear_dynamic"
        code.replace(code.emit(kind, x, argument, code.constant(False)))
        return packed

    return rewritten(module, pack)
