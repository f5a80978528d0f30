"""A CPU stand-in for Triton's C++ PyTorch backend, in the form of a Python-based backend.

Triton accepts a backend that is one Python file, `<backend-directory>/pytorch/model.py`; `service.local.triton_install`
copies this file there, and beside it `service.inference.torchscript_archive`, which loads files, and
`service.local.triton_stalls`. The server from PyPI, which has no C++ PyTorch backend, then serves a repository of
production unchanged. It imports nothing of the service, because Triton runs it alone.

The rules are those of the C++ backend: inputs are forward's arguments by name, else by a `__<index>` suffix, else by
order; outputs by suffix, else by order; a forward returns a tensor or a flat tuple, of exactly the configured types.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack

_TYPES = {
    "TYPE_BOOL": torch.bool,
    "TYPE_UINT8": torch.uint8,
    "TYPE_INT8": torch.int8,
    "TYPE_INT16": torch.int16,
    "TYPE_INT32": torch.int32,
    "TYPE_INT64": torch.int64,
    "TYPE_FP16": torch.float16,
    "TYPE_FP32": torch.float32,
    "TYPE_FP64": torch.float64,
}
_INDEX = re.compile(r".+__(\d+)")


OPERATORS = "VIDTR_TORCHSCRIPT_OPERATORS"
"""Variable with the operators that files may use besides those that compute."""


class _Mismatch(Exception):
    """The network's results are not what the configuration says."""


def _positions(names: list[str], arguments: list[str]) -> dict[str, int]:
    """Place of each tensor in forward's arguments, or in its result where `arguments` is empty."""
    if arguments and set(names) <= set(arguments):
        return {name: arguments.index(name) for name in names}
    matches = [_INDEX.fullmatch(name) for name in names]
    # One name without a suffix makes the C++ backend ignore all suffixes.
    if all(matches):
        return {name: int(match[1]) for name, match in zip(names, matches, strict=True) if match}
    return {name: place for place, name in enumerate(names)}


class TritonPythonModel:
    """The class that Triton's Python backend looks for: one instance per model instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's TorchScript file; what it raises fails the load of the model."""
        # Triton puts no folder of a backend on the path.
        sys.path.append(str(Path(__file__).parent))
        from torchscript_archive import load_archive
        from triton_stalls import StallGuard

        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        if threads := parameters.get("INTRA_OP_THREAD_COUNT"):
            torch.set_num_threads(int(threads))
        self._optimized = parameters.get("DISABLE_OPTIMIZED_EXECUTION", "false") != "true"
        self._batching = config["max_batch_size"] > 0
        inputs, outputs = config["input"], config["output"]
        for tensor in inputs + outputs:
            if tensor["data_type"] not in _TYPES:
                raise pb_utils.TritonModelException(f"{tensor['name']}: {tensor['data_type']} is not supported")
        folder = Path(args["model_repository"]) / args["model_version"]
        operators = tuple(filter(None, os.environ.get(OPERATORS, "").split(",")))
        path = folder / (config["default_model_filename"] or "model.pt")
        self._module = load_archive(path, operators)
        arguments = self._arguments()
        if len(arguments) != len(inputs):
            raise pb_utils.TritonModelException(f"{len(inputs)} inputs configured, forward takes {arguments}")
        self._inputs = _positions([tensor["name"] for tensor in inputs], arguments)
        self._outputs = _positions([tensor["name"] for tensor in outputs], [])
        self._dtypes = {tensor["name"]: _TYPES[tensor["data_type"]] for tensor in outputs}
        self._guard = StallGuard()
        self._guard.start()

    def _arguments(self) -> list[str]:
        arguments = [a for a in self._module.forward.schema.arguments if a.type.kind() != "ClassType"]  # not self
        for argument in arguments:
            if argument.type.kind() != "TensorType":
                raise pb_utils.TritonModelException(f"forward's argument {argument.name} is no Tensor")
        return [argument.name for argument in arguments]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that the server has put together: one forward, one response each."""
        with self._guard:
            try:
                return [self._response(request, rows) for request, rows in self._forward(requests)]
            except _Mismatch as error:
                failure = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            except Exception as error:  # whatever the network raises is the answer to this batch only
                failure = pb_utils.TritonError(f"forward failed: {error}", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]

    def _forward(self, requests: list[Any]) -> list[tuple[Any, dict[str, torch.Tensor]]]:
        feed: list[Any] = [None] * len(self._inputs)
        rows: list[int] = []
        for name, place in self._inputs.items():
            # DLPack in both directions: with NumPy 2 this server's NumPy bridge silently transfers wrong bytes.
            parts = [from_dlpack(pb_utils.get_input_tensor_by_name(r, name).to_dlpack()) for r in requests]
            rows = [len(part) for part in parts] if self._batching else []
            feed[place] = torch.cat(parts) if len(parts) > 1 else parts[0]
        with torch.inference_mode(), torch.jit.optimized_execution(self._optimized):  # type: ignore[attr-defined]
            result = self._module(*feed)
        results = (result,) if isinstance(result, torch.Tensor) else result
        if not isinstance(results, tuple) or not all(isinstance(r, torch.Tensor) for r in results):
            raise TypeError("forward returns neither a tensor nor a flat tuple of tensors")
        answers: list[dict[str, torch.Tensor]] = [{} for _ in requests]
        for name, place in self._outputs.items():
            tensor = self._checked(name, place, results)
            pieces = torch.split(tensor, rows) if self._batching else (tensor,)
            for answer, piece in zip(answers, pieces, strict=True):
                answer[name] = piece.contiguous()
        return list(zip(requests, answers, strict=True))

    def _checked(self, name: str, place: int, results: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if place >= len(results):
            raise _Mismatch(f"output {name} is number {place}, forward returns {len(results)} tensors")
        tensor = results[place]
        if tensor.dtype != self._dtypes[name]:
            raise _Mismatch(f"output {name} is configured as {self._dtypes[name]}, forward returns {tensor.dtype}")
        if tensor.dim() == 0:
            raise _Mismatch(f"output {name} has no dimensions")
        return tensor

    def _response(self, request: Any, rows: dict[str, torch.Tensor]) -> Any:
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor.from_dlpack(name, tensor) for name, tensor in rows.items() if name in wanted
            ]
        )
