"""A loaded TorchScript model, rewritten for the CPU that it runs on.

The file of a model knows no device, so that a GPU loads it as it is; what only a CPU gains from is done here, after
loading. Freezing folds all that depends on weights alone, such as a class token that has not met the video yet. Then
linear maps get their weights in oneDNN's blocked layout with bias and ReLU in the same pass (10 to 18 % faster than
the same product with bias by BLAS at the shapes of these networks), softmax is taken over columns where rows are short
(5 to 10 times faster than over rows of 8 or 9), and in bfloat16 norms read half precision directly and attention is
two products, which there is faster than the fused kernel.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from service.inference.graph import GraphEditor, constant, fused_relu_user, inputs

Forward: TypeAlias = Callable[[Tensor], Any]
Pack: TypeAlias = Callable[[Any, Any], Any]

_log = logging.getLogger(__name__)

# Rows of a product are blocked alike from some dozens on, so that one layout serves all batch sizes.
_ROWS = 1568
OPTIONAL_SCALARS: Any = torch._C.ListType(torch._C.OptionalType(torch._C.NumberType.get()))


def optimize_for_cpu(module: torch.jit.ScriptModule) -> Forward:
    """A function that computes what `module` does, up to rounding, faster.

    The module itself where this build of torch has no oneDNN or the module cannot be rewritten.
    """
    if not torch.backends.mkldnn.is_available():
        return module
    try:
        return rewritten(module, pack_blocked)
    except (RuntimeError, AttributeError) as error:
        _log.warning("the model runs as it was loaded, because it could not be rewritten for this CPU: %s", error)
        return module


def rewritten(module: torch.jit.ScriptModule, pack: Pack) -> Forward:
    """`optimize_for_cpu` with a choice of linear maps: `pack` replaces the node of one, given the graph and the node.

    It returns what the replacement takes as a new input of the graph. Raises RuntimeError or AttributeError where the
    module cannot be rewritten.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.freeze` is deprecated")
        graph: Any = torch.jit.freeze(module).graph
    jit: Any = torch._C
    jit._jit_pass_constant_propagation(graph)
    for node in graph.findAllNodes("aten::softmax", True):
        _take_columns(graph, node)
    for node in graph.findAllNodes("aten::layer_norm", True):
        _read_half_precision(graph, node)
    linear = [node for node in graph.findAllNodes("aten::linear", True) if constant(inputs(node)[1]) is not None]
    if any(constant(inputs(node)[1]).dtype == torch.bfloat16 for node in linear):
        for node in graph.findAllNodes("aten::scaled_dot_product_attention", True):
            _attend_by_products(graph, node)
    weights = [pack(graph, node) for node in linear]
    jit._jit_pass_dce(graph)
    if next(graph.inputs()).uses():  # An attribute that freezing kept: the graph still needs the module.
        return module
    graph.eraseInput(0)
    function = jit._create_function_from_graph("forward", graph)
    return lambda clips: function(clips, *weights)


def _take_columns(graph: Any, node: Any) -> None:
    x, dim, dtype = inputs(node)
    if constant(dim) != -1:
        return
    code = GraphEditor(graph, node)
    first = code.constant(0)
    columns = code.emit("aten::t", code.emit("aten::flatten", x, first, code.constant(-2)))
    softmax = code.emit("aten::t", code.emit("aten::softmax", columns, first, dtype))
    size = code.emit("aten::size", x, type_=torch._C.ListType.ofInts())
    code.replace(code.emit("aten::reshape", softmax, size))


def _read_half_precision(graph: Any, node: Any) -> None:
    widened, *others = inputs(node)
    uses = node.output().uses()
    if widened.node().kind() != "aten::to" or [use.user.kind() for use in uses] != ["aten::to"]:
        return
    narrowed = uses[0].user
    x, target = inputs(widened.node())[0], inputs(narrowed)[1].node()
    if target.kind() != "prim::dtype" or inputs(target)[0].unique() != x.unique():
        return
    code = GraphEditor(graph, narrowed)
    # The kernel computes in float32 whatever it reads and writes.
    code.replace(code.emit("aten::layer_norm", x, *others))


def _attend_by_products(graph: Any, node: Any) -> None:
    query, key, value, *options = inputs(node)
    if [constant(option) for option in options] != [None, 0.0, False, None, False]:
        return
    code = GraphEditor(graph, node)
    last, none = code.constant(-1), code.constant(None)
    channels = code.emit("aten::size", query, last, type_=torch._C.IntType.get())
    by = code.emit("aten::pow", channels, code.constant(-0.5), type_=torch._C.FloatType.get())
    products = code.emit("aten::matmul", query, code.emit("aten::transpose", key, last, code.constant(-2)))
    weights = code.emit("aten::softmax", code.emit("aten::mul_", products, by), last, none)
    code.replace(code.emit("aten::matmul", weights, value))


def pack_blocked(graph: Any, node: Any) -> Tensor:
    """Replace a linear map by one over packed weights, a new input of the graph, and return them."""
    x, weight, bias = inputs(node)
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(constant(weight).detach().contiguous(), _ROWS)
    argument = graph.addInput()
    relu = fused_relu_user(node)
    code = GraphEditor(graph, relu or node)
    scalars = code.emit("prim::ListConstruct", type_=OPTIONAL_SCALARS)
    activation, algorithm = code.constant("relu" if relu else "none"), code.constant("")
    code.replace(code.emit("mkldnn::_linear_pointwise", x, argument, bias, activation, scalars, algorithm))
    return packed
