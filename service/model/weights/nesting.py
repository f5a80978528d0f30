"""How large the nests of tuples of a pickle are, told without unpickling it.

A tuple that holds another one twice takes two references, and each level above doubles the work of hashing it: 40
levels in some hundred bytes never end. Every unpickler hashes what becomes a key of a mapping or a member of a set. So
the program of the pickle is read first, on a stack of sizes instead of objects.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

# Walked in a few milliseconds. A checkpoint's shapes and strides are tuples of a handful of numbers.
MOST_PARTS = 100_000
# What PyTorch wrote before it wrote archives: so many pickles, one after the other.
_PICKLES = 5
_MARK = -1
_NESTS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"}


class Nested(ValueError):
    """A tuple with more parts, counted as often as they are met, than can be walked."""


def check_nesting(path: Path) -> None:
    """Raise Nested where a tuple or frozen set in the file has more than `MOST_PARTS` parts in all.

    A pickle that is damaged is looked at as far as it can be read: unpickling it gets no further.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    with archive.open(name) as file:
                        _check(file, 1)
        return
    with path.open("rb") as plain:
        _check(plain, _PICKLES)


def _check(file: IO[bytes], pickles: int) -> None:
    for _ in range(pickles):
        try:
            _check_one(file)
        except Nested:
            raise
        # A damaged pickle raises anything.
        except Exception:
            return


def _check_one(file: IO[bytes]) -> None:
    stack: list[int] = []
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            parts = _popped(stack, opcode)
            size = 1 + sum(parts) if name in _NESTS else 1
            if size > MOST_PARTS:
                raise Nested(f"a nest of tuples has more than {MOST_PARTS} parts")
            kept = parts[:1] if name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS", "ADDITEMS", "BUILD") else []
            stack += kept or [size] * len(opcode.stack_after)


def _popped(stack: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What the opcode takes off the stack, without marks, lowest first."""
    before = opcode.stack_before
    taken: list[int] = []
    if pickletools.markobject in before:
        while (top := stack.pop()) != _MARK:
            taken.append(top)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        taken.append(stack.pop())
    return taken[::-1]
