"""A CPU stand-in for Triton's ONNX Runtime backend, in the form of a Python-based backend.

Like `service.local.triton_pytorch_backend` it is copied into the directory of the server from PyPI, as
`<backend-directory>/onnxruntime/model.py` beside `service.local.triton_stalls`, and imports nothing of the service,
because Triton runs it alone.

The rules are those of the C++ backend: inputs and outputs are the graph's, by name; the first dimension of each is open
where the model is batched, and the others are those of the configuration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack

_TYPES = {
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
}
_ERRORS_ONLY = 3


class TritonPythonModel:
    """The class that Triton's Python backend looks for: one instance per model instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's ONNX file; what it raises fails the load of the model."""
        # Triton puts no folder of a backend on the path.
        sys.path.append(str(Path(__file__).parent))
        from triton_stalls import StallGuard

        config = json.loads(args["model_config"])
        self._batching = config["max_batch_size"] > 0
        path = Path(args["model_repository"]) / args["model_version"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        # Threads that spin take the cores of the other instances.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        options.intra_op_num_threads = int(parameters.get("INTRA_OP_THREAD_COUNT", "0"))
        # From its bytes: weights in files beside it, which no hash covers, are not read then.
        content = (path / (config["default_model_filename"] or "model.onnx")).read_bytes()
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = self._checked(config["input"], self._session.get_inputs())
        self._outputs = self._checked(config["output"], self._session.get_outputs())
        self._guard = StallGuard()
        self._guard.start()

    def _checked(self, configured: list[dict[str, Any]], of_graph: list[Any]) -> list[str]:
        found = {value.name: value for value in of_graph}
        for tensor in configured:
            name, value = tensor["name"], found.get(tensor["name"])
            if value is None:
                raise pb_utils.TritonModelException(f"{name} is configured, the graph has {', '.join(found)}")
            if _TYPES.get(tensor["data_type"]) != value.type:
                raise pb_utils.TritonModelException(f"{name} is {value.type}, not {tensor['data_type']}")
            dims = [int(size) for size in tensor["dims"]]
            sizes = [size if isinstance(size, int) else -1 for size in value.shape]
            wanted = [-1, *dims] if self._batching else dims
            if sizes != wanted:
                raise pb_utils.TritonModelException(f"{name} has the sizes {sizes} in the graph, {wanted} configured")
        return [tensor["name"] for tensor in configured]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that the server has put together: one run, one response each."""
        with self._guard:
            try:
                return self._responses(requests)
            except Exception as error:  # whatever the engine raises is the answer to this batch only
                failure = pb_utils.TritonError(f"the run failed: {error}", pb_utils.TritonError.INTERNAL)
                return [pb_utils.InferenceResponse(error=failure) for _ in requests]

    def _responses(self, requests: list[Any]) -> list[Any]:
        feed: dict[str, np.ndarray] = {}
        rows: list[int] = []
        for name in self._inputs:
            # DLPack in both directions: with NumPy 2 this server's NumPy bridge silently transfers wrong bytes.
            parts = [from_dlpack(pb_utils.get_input_tensor_by_name(r, name).to_dlpack()) for r in requests]
            rows = [len(part) for part in parts] if self._batching else []
            feed[name] = (torch.cat(parts) if len(parts) > 1 else parts[0]).numpy()
        results = self._session.run(self._outputs, feed)
        answers: list[dict[str, torch.Tensor]] = [{} for _ in requests]
        for name, result in zip(self._outputs, results, strict=True):
            tensor = torch.from_numpy(result)
            pieces = torch.split(tensor, rows) if self._batching else (tensor,)
            for answer, piece in zip(answers, pieces, strict=True):
                answer[name] = piece.contiguous()
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor.from_dlpack(name, tensor)
                    for name, tensor in answer.items()
                    if name in request.requested_output_names()
                ]
            )
            for request, answer in zip(requests, answers, strict=True)
        ]
