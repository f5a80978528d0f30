"""ONNX files, computed by ONNX Runtime in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.contracts import ModelSpec
from service.inference.cpu import Forward
from service.inference.spec import INPUT

_ERRORS_ONLY = 3


def onnx_forward(path: Path, spec: ModelSpec, threads: int) -> Forward:
    """A forward of clips uint8 `(B, T, H, W, 3)` to the outputs of `spec` in their order, on `threads` threads.

    The file is all there is: one that keeps weights in files beside it is refused, since the SHA-256 of the
    configuration does not cover those.

    Raises RuntimeError where ONNX Runtime is missing or does not load the file, or the file lacks an output.
    """
    session = open_session(path.read_bytes(), threads)
    names = list(spec.outputs)
    found = [output.name for output in session.get_outputs()]
    if missing := [name for name in names if name not in found]:
        raise RuntimeError(f"the file returns {', '.join(found)}, and not {', '.join(missing)}")

    def forward(clips: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(output) for output in session.run(names, {INPUT: clips.numpy()}))

    return forward


def open_session(content: bytes, threads: int) -> Any:
    """The `onnxruntime.InferenceSession` of a file's bytes. Raises RuntimeError where it cannot be."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RuntimeError("ONNX files need onnxruntime: pip install 'vidtr-serve[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    # Threads that spin take the cores of the decoder: see `service.inference.threads`.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors derive from no narrower class
        raise RuntimeError(str(error)) from error
