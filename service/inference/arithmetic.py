"""The arithmetic in which the in-process engine computes a model: that of its file, or coarser where it may be.

Only TorchScript files in float32 are changed, and only where this CPU gains by it and the logits of the reference clips
stay within the bound that the export has written, so that a model which does not bear it is never served so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
import torch

from service.contracts import Arithmetic, EnginePrecision
from service.errors import PrecisionUnavailable, sentence
from service.inference.backend import summarize_error
from service.inference.cpu import Forward, optimize_for_cpu
from service.inference.int8 import in_int8
from service.inference.microbatch import microbatch
from service.inference.registry import ModelFile
from service.inference.torchscript_archive import load_archive
from service.reference_clips import ReferenceLogits, reference_clips

log = structlog.get_logger()

_CLIP_BY_CLIP = 1
"""Bytes of a pass that hold no clip, so that each goes alone."""


@dataclass(frozen=True, slots=True)
class CpuArithmetic:
    """What a CPU multiplies by instructions of its own."""

    bf16: bool
    int8: bool

    @classmethod
    def of_this_machine(cls) -> CpuArithmetic:
        """As torch finds it; nothing where it cannot tell."""
        found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        has = {name for name, value in found.items() if value is True}
        return cls(
            bf16=bool(has & {"avx512_bf16", "amx_bf16"}), int8=bool(has & {"avx512_vnni", "avx_vnni", "amx_int8"})
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A forward for batches of any size, and the file with what it is computed in."""

    forward: Forward
    file: ModelFile


class _Unfit(Exception):
    """Why a model is not computed in some arithmetic: the end of a sentence."""


def load_torchscript(
    file: ModelFile, wanted: EnginePrecision, cpu: CpuArithmetic, operators: tuple[str, ...] = ()
) -> Loaded:
    """Load a TorchScript file in the arithmetic wanted. One exported in half precision is computed as it is.

    Raises:
        PrecisionUnavailable: `bf16` or `int8` is wanted by name, and this CPU or this model cannot have it.
        RuntimeError: the file cannot be loaded.
    """

    def load() -> torch.jit.ScriptModule:
        return load_archive(file.path, operators)

    def as_exported() -> Loaded:
        return Loaded(microbatch(optimize_for_cpu(load())), file)

    if file.spec.precision != "fp32" or wanted == "fp32":
        return as_exported()
    arithmetic: Arithmetic = "bf16" if wanted == "auto" else wanted
    try:
        forward, drift, bound = _coarser(file, arithmetic, cpu, load)
    except _Unfit as why:
        _refuse(file, wanted, arithmetic, str(why))
        return as_exported()
    named = {"model": file.spec.name, "version": file.spec.version, "arithmetic": arithmetic}
    log.info("arithmetic_chosen", **named, drift=round(drift, 4), bound=bound)
    return Loaded(forward, replace(file, spec=file.spec.model_copy(update={"arithmetic": arithmetic})))


def check_onnx(file: ModelFile, wanted: EnginePrecision) -> None:
    """Raise PrecisionUnavailable where arithmetic is wanted by name that an ONNX file is not computed in."""
    if wanted in ("bf16", "int8"):
        _refuse(file, wanted, wanted, "it is an ONNX file, which is computed as it was exported")


def _refuse(file: ModelFile, wanted: EnginePrecision, arithmetic: Arithmetic, why: str) -> None:
    """Raise where the arithmetic was named; where it was left to the machine, say why it is float32."""
    name, version = file.spec.name, file.spec.version
    if wanted != "auto":
        raise PrecisionUnavailable(
            f"Model {name!r} version {version} cannot be computed in {arithmetic}: {why}. "
            "Set `engine_precision` to `auto` or `fp32`."
        )
    log.info("arithmetic_chosen", model=name, version=version, arithmetic="fp32", why=why)


def _coarser(
    file: ModelFile, arithmetic: Arithmetic, cpu: CpuArithmetic, load: Callable[[], torch.jit.ScriptModule]
) -> tuple[Forward, float, float]:
    """The forward, how far it moves the reference logits, and how far it may. Raises _Unfit."""
    if not (cpu.bf16 if arithmetic == "bf16" else cpu.int8):
        needs = "AVX-512 BF16 or AMX" if arithmetic == "bf16" else "AVX-512 VNNI, AVX-VNNI or AMX"
        raise _Unfit(f"this CPU lacks {needs}")
    reference = file.reference or _computed_reference(file, load)
    try:
        forward = forward_in(arithmetic, load(), wide_sums=CpuArithmetic.of_this_machine().int8)
        logits = _logits(forward, file)
    except (RuntimeError, AttributeError) as error:
        raise _Unfit(sentence(summarize_error(str(error))).removesuffix(".")) from error
    drift = reference.drift(logits)
    # Not `drift > bound`: NaN is beyond any bound.
    if not drift <= reference.bound:
        raise _Unfit(
            f"it moves the logits of the reference clips by {drift:.3g}, and the bound is {reference.bound:.3g}"
        )
    return forward, drift, reference.bound


def forward_in(arithmetic: Arithmetic, module: torch.jit.ScriptModule, *, wide_sums: bool) -> Forward:
    """A forward of any batch of a float32 module in other arithmetic; `wide_sums` as for `in_int8`.

    In int8 every clip goes through the network alone: last digits that depend on a batch would be rounded apart.
    Raises RuntimeError or AttributeError where the module cannot be changed.
    """
    if arithmetic == "bf16":
        return microbatch(optimize_for_cpu(in_bf16(module)))
    return microbatch(in_int8(module, wide_sums=wide_sums), _CLIP_BY_CLIP)


def in_bf16(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """A module exported in float32, changed to what the same network exported in bfloat16 is."""
    module.to(torch.bfloat16)
    for child in module.modules():
        if getattr(child, "original_name", "") == "LayerNorm32":
            child.float()
    return module


def _computed_reference(file: ModelFile, load: Callable[[], torch.jit.ScriptModule]) -> ReferenceLogits:
    """For exports of releases that kept none."""
    log.info("reference_logits_missing", model=file.spec.name, version=file.spec.version)
    return ReferenceLogits.of(_logits(microbatch(optimize_for_cpu(load())), file))


def _logits(forward: Forward, file: ModelFile) -> Any:
    clips = torch.from_numpy(reference_clips(file.spec.clip_shape))
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        result = forward(clips)
    logits = result if isinstance(result, torch.Tensor) else result[0]
    if logits.shape != (len(clips), len(file.spec.labels)):
        raise RuntimeError(f"its logits have the shape {list(logits.shape)}")
    return logits.float().numpy()
