"""Linear maps in int8, of a loaded TorchScript model.

Weights are quantized once, symmetrically and per output channel; what a map reads is at every call and per token,
symmetrically, or from zero on where a ReLU gives it. A token's range is its own and sums of integers are exact, so that
no token is rounded by what stands beside it. Norms, softmax, attention, residuals, the patch embedding and small maps,
as those to the labels are, stay in float32. What is left of a batch in the result are the last digits of those: who
wants none of them passes clips one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from service.inference.cpu import OPTIONAL_SCALARS, Forward, Pack, pack_blocked, rewritten
from service.inference.graph import GraphEditor, constant, fused_relu_user, inputs

FEWEST = 64
"""Numbers that a map in int8 gives, at least: with fewer the rounding takes as long as the product."""
_STEPS = 127
_ZERO = _STEPS + 1
_TINY = 1e-12
"""The range of a token of zeros, which has none."""


def in_int8(module: torch.jit.ScriptModule, *, wide_sums: bool) -> Forward:
    """What `service.inference.cpu.optimize_for_cpu` makes of a float32 module, with its linear maps in int8.

    `wide_sums` says that the CPU adds products in 32 bits, as VNNI and AMX do. Others add pairs of them in 16, which
    overflow: there each product is taken in two halves, which is right, and slow. Raises RuntimeError or AttributeError
    where the module cannot be rewritten.
    """
    forward = rewritten(module, _packing(wide_sums=wide_sums))
    if forward is module:
        raise RuntimeError("it keeps a state of its own")
    return forward


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight `(n, k)` as int8, and the `n` float32 scales that give it back; rows of zeros stay zero."""
    scales = weight.abs().amax(dim=1).clamp(min=_TINY) / _STEPS
    return torch.round(weight / scales.unsqueeze(1)).to(torch.int8), scales


def _packing(*, wide_sums: bool) -> Pack:
    first = True

    def pack(graph: Any, node: Any) -> Tensor:
        nonlocal first
        weight = constant(inputs(node)[1])
        embeds, first = first, False
        if embeds or weight.dtype != torch.float32 or weight.size(0) < FEWEST:
            return pack_blocked(graph, node)
        return _pack_int8(graph, node, wide_sums=wide_sums)

    return pack


def _pack_int8(graph: Any, node: Any, *, wide_sums: bool) -> Tensor:
    x, weight, bias = inputs(node)
    values, scales = quantized(constant(weight).detach())
    packed: Tensor = torch.ops.onednn.qlinear_prepack(values, None)
    argument = graph.addInput()
    relu = fused_relu_user(node)
    code = GraphEditor(graph, relu or node)
    positive = x.node().kind() in ("aten::relu", "aten::relu_")
    zero = 0 if positive else _ZERO
    step, tokens = _rounded(code, x, zero, 2 * _STEPS + 1 if positive else _STEPS)
    product = _Product(code, argument, scales)
    if wide_sums:
        products = product.of(tokens, zero)
    else:
        half = code.emit("aten::bitwise_right_shift", tokens, code.constant(1))
        rest = code.emit("aten::sub", tokens, half, code.constant(1))
        low, high = (product.of(part, zero // 2) for part in (half, rest))
        products = code.emit("aten::add_", low, high, code.constant(1))
    if constant(bias) is None:
        y = code.emit("aten::mul_", products, step)
    else:
        y = code.emit("aten::addcmul", bias, products, step, code.constant(1))
    code.replace(code.emit("aten::relu_", y) if relu else y)
    return packed


def _rounded(code: GraphEditor, x: Any, zero: int, steps: int) -> tuple[Any, Any]:
    """The step of each token `(…, 1)`, its largest magnitude over `steps`, and the tokens as uint8, `zero` for 0."""
    last, keep, no, none = code.constant([-1]), code.constant(True), code.constant(False), code.constant(None)
    below = code.emit("aten::neg", code.emit("aten::amin", x, last, keep))
    peak = code.emit("aten::maximum", code.emit("aten::amax", x, last, keep), below)
    step = code.emit("aten::div", code.emit("aten::clamp_min", peak, code.constant(_TINY)), code.constant(steps))
    # Half a step higher, where all is above zero, so that cutting digits off rounds.
    shift = code.constant(torch.tensor(zero + 0.5))
    raised = code.emit("aten::addcmul", shift, x, code.emit("aten::reciprocal", step), code.constant(1))
    return step, code.emit("aten::to", raised, code.constant(torch.uint8), no, no, none)


class _Product:
    """Emits products by one packed weight."""

    def __init__(self, code: GraphEditor, packed: Any, scales: Tensor) -> None:
        self._code = code
        self._packed = packed
        self._scales = code.constant(scales)
        self._zeros = code.constant(torch.zeros(len(scales), dtype=torch.long))

    def of(self, tokens: Any, zero: int) -> Any:
        """Of uint8 tokens around `zero`, float32."""
        code, none, one = self._code, self._code.constant(None), self._code.constant(1.0)
        scalars = code.emit("prim::ListConstruct", type_=OPTIONAL_SCALARS)
        scale_and_zero = (one, code.constant(zero))
        output = (one, code.constant(0), code.constant(torch.float32))
        activation = (code.constant("none"), scalars, code.constant(""))
        weights = (self._packed, self._scales, self._zeros, none)
        return code.emit("onednn::qlinear_pointwise", tokens, *scale_and_zero, *weights, *output, *activation)
