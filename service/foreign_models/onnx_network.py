"""ONNX files of other libraries, adapted to the service's clips and checked by running them.

What prepares the clips is put in front of the network in its own graph: then a Triton server with its ONNX Runtime
backend serves the file as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, compose, helper, numpy_helper

from service.cores import usable_cores
from service.foreign_models.description import LAYOUTS, ORDERS, Description, ForeignModelError
from service.foreign_models.trial_run import Outputs, probe
from service.inference.backend import Clips, summarize_error
from service.inference.onnx_session import open_session
from service.inference.spec import INPUT
from service.model.triton_config import ForeignNetwork

_PREFIX = "network/"
_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
_LARGEST_BYTES = 2**31 - 1
# The oldest operator set whose arithmetic broadcasts.
_OPSET = 7


def adapt_onnx(path: Path, described: Description) -> tuple[bytes, ForeignNetwork]:
    """The file as it is served, and what its configuration says.

    Raises ForeignModelError where the file is no ONNX model that ONNX Runtime loads, takes other clips than described,
    leaves sizes open, or returns other outputs.
    """
    model = _read(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    taken = [value for value in graph.input if value.name not in weights]
    if len(taken) != 1:
        names = ", ".join(value.name for value in taken) or "nothing"
        raise ForeignModelError(f"the network takes {names}; the service has one tensor for it, the clips")
    _check_input(taken[0], described)
    returned = [_output(graph, described.logits)]
    if described.embedding is not None:
        returned.append(_output(graph, described.embedding))
    content = _adapted(model, taken[0].name, returned, described)
    try:
        session: Any = open_session(content, usable_cores())
    except RuntimeError as error:
        raise ForeignModelError(f"{path} cannot be served: {summarize_error(str(error))}") from error

    def run(clips: Clips) -> Outputs:
        try:
            outputs: Outputs = session.run(None, {INPUT: clips})
        except Exception as error:  # ONNX Runtime's own errors derive from no narrower class
            shape = list(described.input_shape(len(clips)))
            said = summarize_error(str(error))
            raise ForeignModelError(f"the network fails on {described.numbers} {shape}: {said}") from error
        return outputs

    embedding = probe(run, described)
    if embedding:
        content = _with_size(content, embedding)
    return content, described.network(embedding, "onnxruntime")


def _read(path: Path) -> onnx.ModelProto:
    try:
        # With the weights that lie in files beside it: what is served is one file, which its SHA-256 covers.
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ForeignModelError(f"{path} is no ONNX model: {summarize_error(str(error))}") from error
    version = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if version < _OPSET:
        raise ForeignModelError(f"{path} uses operator set {version}; {_OPSET} or later is needed")
    return model


def _check_input(value: onnx.ValueInfoProto, described: Description) -> None:
    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    found = f"the network takes {value.name!r}, {TensorProto.DataType.Name(tensor.elem_type)} {dims}"
    said = f"{described.numbers} {['B', *described.input_shape(1)[1:]]}, which is {described.layout}"
    if tensor.elem_type != _TYPES[described.numbers] or len(dims) != 5:
        raise ForeignModelError(f"{found}; {said}, was said")
    if open_dims := [dim for dim in dims[1:] if not isinstance(dim, int)]:
        raise ForeignModelError(
            f"{found}, with open sizes {', '.join(map(str, open_dims))}; clips are {said}: "
            "export the network with these sizes, and with an open size for the batch only"
        )
    if isinstance(dims[0], int):
        raise ForeignModelError(
            f"{found}, always {dims[0]} clips; passes of 1 to {described.max_batch_size} clips were said: "
            "export the network with an open size for the batch"
        )
    if tuple(dims[1:]) != described.input_shape(1)[1:]:
        fitting = [layout for layout in LAYOUTS if tuple(dims[1:]) == described.input_shape(1, layout)[1:]]
        advice = f"; {fitting[0]} would fit" if fitting else ""
        raise ForeignModelError(f"{found}; {said}, was said{advice}")


def _output(graph: onnx.GraphProto, wanted: int | str) -> str:
    names = [value.name for value in graph.output]
    if wanted in names:
        return str(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return str(names[wanted])
    raise ForeignModelError(f"the network returns {', '.join(names)}; there is no output {wanted!r}")


def _adapted(model: onnx.ModelProto, taken: str, returned: list[str], described: Description) -> bytes:
    """The model with the service's input and outputs."""
    model = compose.add_prefix(model, _PREFIX)
    graph = model.graph
    order = ORDERS[described.layout]
    steps = [helper.make_node("Transpose", ["served/picture"], [_PREFIX + taken], perm=list(order))]
    if described.numbers == "float32":
        values = {name: np.array(getattr(described, name), np.float32) for name in ("scale", "mean", "std")}
        graph.initializer.extend(numpy_helper.from_array(value, f"served/{name}") for name, value in values.items())
        steps = [
            helper.make_node("Cast", [INPUT], ["served/float"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["served/float", "served/scale"], ["served/scaled"]),
            helper.make_node("Sub", ["served/scaled", "served/mean"], ["served/centered"]),
            helper.make_node("Div", ["served/centered", "served/std"], ["served/picture"]),
            *steps,
        ]
    else:
        steps[0].input[0] = INPUT
    named = dict(zip(("logits", "embedding"), returned, strict=False))
    ends = [helper.make_node("Cast", [_PREFIX + name], [end], to=TensorProto.FLOAT) for end, name in named.items()]
    nodes = [*steps, *graph.node, *ends]
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [value for value in graph.input if value.name != _PREFIX + taken]
    del graph.input[:]
    clips = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *described.clip_shape])
    graph.input.extend([clips, *kept])
    del graph.output[:]
    sizes = {"logits": len(described.labels), "embedding": None}
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", sizes[name]]) for name in named
    )
    size = model.ByteSize()
    if size > _LARGEST_BYTES:
        raise ForeignModelError(f"the network has {size} bytes; one file of ONNX holds {_LARGEST_BYTES} at most")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _with_size(content: bytes, embedding: int) -> bytes:
    """The file with the size of the embedding, which Triton compares with its configuration."""
    model = onnx.load_model_from_string(content)
    [output] = [value for value in model.graph.output if value.name == "embedding"]
    output.type.tensor_type.shape.dim[1].dim_value = embedding
    sized: bytes = model.SerializeToString(deterministic=True)
    return sized
