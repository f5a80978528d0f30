"""TorchScript files of other libraries, adapted to the service's clips and checked by running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from service.foreign_models.adapters import ChosenOutput, ChosenOutputs, OneOutput
from service.foreign_models.description import LAYOUTS, ORDERS, Description, ForeignModelError
from service.foreign_models.trial_run import Outputs, probe
from service.inference.backend import Clips, summarize_error
from service.inference.torchscript_archive import load_archive
from service.model.model_export import scripted_archive
from service.model.triton_config import ForeignNetwork


def adapt_torchscript(
    path: Path, described: Description, operators: tuple[str, ...], scratch: Path
) -> tuple[bytes, ForeignNetwork]:
    """The file as it is served, and what its configuration says; `scratch` is a folder that may be written to.

    The network may use `operators` besides those that compute.

    Raises ForeignModelError where the file is no TorchScript archive, does more than compute, takes other clips than
    described or returns other outputs.
    """
    network = _loaded(path, operators)
    _check_arguments(network)
    adapted = _adapted(network, described)
    content = scripted_archive(adapted)
    written = scratch / "model.pt"
    written.write_bytes(content)
    served = _loaded(written, operators)

    def run(clips: Clips) -> Outputs:
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            try:
                result = served(torch.from_numpy(clips))
            except Exception as error:  # TorchScript's own errors derive from no narrower class
                said = summarize_error(str(error))
                raise ForeignModelError(_misfit(network, described, len(clips), said)) from error
        return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]

    embedding = probe(run, described)
    return content, described.network(embedding, "pytorch")


def _loaded(path: Path, operators: tuple[str, ...]) -> torch.jit.ScriptModule:
    try:
        return load_archive(path, operators)
    except (RuntimeError, OSError) as error:
        raise ForeignModelError(f"{path} cannot be served: {summarize_error(str(error))}") from error


def _check_arguments(network: Any) -> None:
    arguments = [argument for argument in network.forward.schema.arguments if argument.name != "self"]
    needed = [argument.name for argument in arguments if not argument.has_default_value()]
    if not arguments or len(needed) > 1:
        takes = ", ".join(needed) or "nothing"
        raise ForeignModelError(f"forward of the network takes {takes}; the service has one tensor for it, the clips")


def _adapted(network: torch.jit.ScriptModule, described: Description) -> nn.Module:
    returns = _returned(network)
    if returns == "TensorType":
        if described.embedding is not None or described.logits != 0:
            other = described.logits if described.embedding is None else described.embedding
            raise ForeignModelError(f"the network returns one tensor; there is no output {other!r} beside it")
        return OneOutput(network, described).eval()
    if returns not in ("TupleType", "ListType", "DictType"):
        raise ForeignModelError(f"the network returns a {returns}; it must be a tensor, or several of them")
    chosen = ChosenOutput if described.embedding is None else ChosenOutputs
    try:
        return torch.jit.script(chosen(network, described).eval())
    except RuntimeError as error:
        named = " and ".join(repr(output) for output in (described.logits, described.embedding) if output is not None)
        kind = {"TupleType": "a tuple", "ListType": "a list", "DictType": "a dictionary"}[returns]
        raise ForeignModelError(
            f"the network returns {kind}, from which {named} cannot be taken as tensors: {summarize_error(str(error))}"
        ) from error


def _returned(network: Any) -> str:
    [returned] = network.forward.schema.returns
    return str(returned.type.kind())


def _misfit(network: torch.jit.ScriptModule, described: Description, batch: int, said: str) -> str:
    """Why a network fails on clips as they were described: which others it takes, where some do."""
    shape = list(described.input_shape(batch))
    failed = f"the network fails on {described.numbers} {shape}, which is {described.layout}, as was said"
    for layout in LAYOUTS:
        for numbers in (torch.float32, torch.uint8):
            clips = torch.zeros((batch, *described.clip_shape), dtype=numbers).permute(ORDERS[layout])
            try:
                with torch.inference_mode():
                    network(clips.contiguous())
            except Exception:  # noqa: S112 - TorchScript's own errors derive from no narrower class
                continue
            taken = f"{str(numbers).removeprefix('torch.')} {list(clips.shape)}, which is {layout}"
            return f"{failed}; it takes {taken}"
    return f"{failed}, and in every other layout of these sizes: {said}"
