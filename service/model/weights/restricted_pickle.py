"""Tensors out of a PyTorch archive whose pickle also holds objects of foreign classes, without running any of them.

A pickle is a program: it names callables and says what to call them with. Here a name resolves to one of four harmless
constructors of this module or, whatever it is, to an inert class that swallows all it is given. Nothing is imported.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """Stands for an object of a class that is not loaded: it accepts what a pickle can do to it, and keeps nothing."""

    def __new__(cls, *_args: object, **_options: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_options: object) -> None:
        """Take any arguments."""

    def __call__(self, *_args: object, **_options: object) -> Inert:
        """Stand for a method, too, and for its result."""
        return self

    def __setitem__(self, _key: object, _value: object) -> None:
        """Take items as a mapping does."""

    def append(self, _item: object) -> None:
        """Take an item as a list does."""

    def extend(self, _items: object) -> None:
        """Take items as a list does."""

    def add(self, _item: object) -> None:
        """Take an item as a set does."""


def load_tensors(path: Path) -> Any:
    """The object that the archive holds, with CPU tensors, and with `Inert` where a foreign class stood.

    Raises pickle.UnpicklingError where the pickle is damaged or its tensors do not fit the archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [pickled] = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
            return _Unpickler(archive, pickled).load()
    # A damaged pickle can raise anything, since its opcodes then work on whatever lies on the stack.
    except Exception as error:
        raise pickle.UnpicklingError(str(error)) from error


# In Python rather than C: that one allocates whatever size a damaged memo index asks for, and cannot drop states.
class _Unpickler(pickle._Unpickler):
    def __init__(self, archive: zipfile.ZipFile, pickled: str) -> None:
        super().__init__(io.BytesIO(_stored(archive, pickled)))
        self._archive = archive
        self._folder = pickled.removesuffix("data.pkl")
        self._storages: dict[str, Tensor] = {}

    def _drop_state(self) -> None:
        # Setting the state of a tensor or of a function would reach into it; none of them needs any.
        self.stack.pop()  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _drop_state}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return _CONSTRUCTORS.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _location, _numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage of unknown type")
        if key not in self._storages:
            self._storages[key] = _flat(_stored(self._archive, f"{self._folder}data/{key}"), dtype)
        # PyTorch writes a storage for one type; another name for the same bytes would hold them once more.
        if self._storages[key].dtype != dtype:
            raise pickle.UnpicklingError(f"the storage {key} is named with two types")
        return self._storages[key]


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    # PyTorch never compresses, so compression is but a way to claim far more memory than the file has bytes.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"the record {name} is compressed")
    return archive.read(name)


def _flat(content: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: object) -> Tensor:
    reach = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    elements = math.prod(size)
    if min((offset, *size, *stride)) < 0 or elements > storage.numel() or (elements and reach >= storage.numel()):
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(size)} reaches beyond its storage")
    return torch.as_strided(storage, size, stride, offset)


def _parameter(data: Tensor, *_rest: object) -> Tensor:
    return data


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): dict,
}
