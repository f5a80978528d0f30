"""Loads TorchScript files that only compute.

A TorchScript file is a program: its operators may read and write files, and a class with `__setstate__` runs while it
is loaded. So a file is read before anything of it is run, and what its functions consist of is compared with a list.
That keeps a file that is not what it seems from the rest of the machine; it does not make the file right.

Triton's Python backend runs this module too, beside `service.local.triton_pytorch_backend` and alone: it imports
nothing of the service.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

_ATEN = """
    Bool Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__ __derive_index __getitem__ __is__
    __isnot__ __not__ __or__ __range_length __rshift__ _convolution _set_item _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d abs
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d add add_ addmm
    all amax amin any append arange argmax argmin argsort avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm
    bitwise_and bitwise_not bitwise_or bmm cat ceil chunk clamp clamp_ clamp_max clamp_min clone constant_pad_nd
    contiguous conv1d conv2d conv3d copy copy_ cos cumsum detach dim div div_ dropout dropout_ einsum elu embedding
    empty_like eq erf exp expand expand_as eye feature_dropout fill_ flatten flip floor floor_divide floordiv format
    full full_like gather ge gelu glu group_norm gt hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_
    index index_select instance_norm is_floating_point keys layer_norm le leaky_relu leaky_relu_ len linalg_vector_norm
    linear linspace list log log2 log_softmax logical_and logical_not logical_or lt masked_fill masked_fill_ matmul max
    max_pool1d max_pool2d max_pool3d maximum mean min minimum mish movedim mul mul_ multi_head_attention_forward narrow
    ne neg new_full new_ones new_zeros norm normal numel numpy_T one_hot ones ones_like pad permute pixel_shuffle pow
    prelu reciprocal reflection_pad2d relu relu6 relu6_ relu_ remainder repeat repeat_interleave replication_pad3d
    reshape roll round rsqrt rsub scaled_dot_product_attention scatter select selu sigmoid sigmoid_ silu silu_ sin size
    slice softmax softplus sort split split_with_sizes sqrt square squeeze stack std sub sub_ sum t tanh tanh_ tensor
    tensor_split tile to topk transpose tril triu true_divide type_as unbind unflatten unsqueeze unsqueeze_
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d values var var_mean view where zeros zeros_like
"""
_PRIM = """
    CallFunction CallMethod Constant ConstantChunk DictConstruct GetAttr If ListConstruct ListUnpack Loop NumToTensor
    RaiseException TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized device dtype is_cuda layout max min
    shape unchecked_cast unchecked_unwrap_optional
"""
OPERATORS = frozenset({f"aten::{name}" for name in _ATEN.split()} | {f"prim::{name}" for name in _PRIM.split()})
"""Operators that compute on tensors, numbers and lists, and reach nothing else."""

# These run, or hand control to compiled classes, while a file is loaded: before its functions can be looked at.
_RUN_ON_LOADING = (b"__setstate__", b"torch.classes")
# Records that an old release would be read by, with rules of its own.
_OLD_FORMAT = "model.json"
_ZIP = b"PK\x03\x04"


class UntrustedArchive(RuntimeError):
    """A file that is no TorchScript archive, or that does more than compute."""


def load_archive(path: Path, operators: Iterable[str] = ()) -> torch.jit.ScriptModule:
    """The module in `path`, on the CPU, in eval mode; `operators` are allowed besides `OPERATORS`.

    Raises:
        UntrustedArchive: the file would run something while it is loaded, or uses an operator that is not allowed;
            nothing of it has been run.
        RuntimeError: it cannot be loaded.
    """
    _check_records(path)
    jit: Any = torch._C
    unit = jit.CompilationUnit()
    with warnings.catch_warnings():
        # TorchScript is deprecated but still the only format that Triton batches; torch 2.14 calls the same
        # warning a FutureWarning.
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+` is deprecated", category=category)
        module = jit.import_ir_module(unit, str(path), torch.device("cpu"), {}, False)
        _check_operators(unit, OPERATORS | frozenset(operators))
        loaded: torch.jit.ScriptModule = torch.jit._recursive.wrap_cpp_module(module)
        return loaded.eval()


def _check_records(path: Path) -> None:
    # Read by the loader's own reader, so that both see the same records.
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            raise UntrustedArchive("the file is no TorchScript archive")
    reader: Any = torch._C.PyTorchFileReader(str(path))
    names = reader.get_all_records()
    if _OLD_FORMAT in names:
        raise UntrustedArchive("the file has the format of a release before PyTorch 1.4; export it again")
    for name in names:
        if not name.endswith((".py", ".pkl")):
            continue
        content = reader.get_record(name)
        for word in _RUN_ON_LOADING:
            if word in content:
                raise UntrustedArchive(f"{name} has {word.decode()}, which would run while the file is loaded")


def _check_operators(unit: Any, allowed: frozenset[str]) -> None:
    seen = 0
    functions = unit.get_functions()
    # Looking at a function compiles it, and what it refers to joins the unit then.
    while len(functions) > seen:
        for function in functions[seen:]:
            if foreign := sorted(set(_kinds(function.graph)) - allowed):
                name = function.qualified_name.removeprefix("__torch__.")
                raise UntrustedArchive(
                    f"{name} uses {', '.join(foreign)}, which no network needs; where it is meant to, the setting "
                    "torchscript_operators allows it"
                )
        seen, functions = len(functions), unit.get_functions()


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)
