"""Programs that the kernel runs before each system call of a process: which calls it lets through, with what arguments.

No library is used: those that exist need libseccomp on the machine, and a program is a list of numbers.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
_LOAD_WORD, _AND, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_ARGUMENTS = 0, 4, 16
_WORD = 0xFFFFFFFF
# Where a condition that fails jumps to; which distance that is, is known once all conditions are.
_REFUSE = -1


@dataclass(frozen=True)
class OneOf:
    """An argument that the kernel takes as 32 bits is one of `values`; it ignores what stands above them."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Within:
    """Of an argument of 64 bits no bit is set outside `bits`, and all of `needed` are."""

    argument: int
    bits: int
    needed: int = 0


Condition = OneOf | Within


@dataclass(frozen=True)
class Call:
    """A system call that is let through where all conditions on its arguments hold."""

    number: int
    conditions: tuple[Condition, ...] = ()


# (code, value, jump if true, jump if false) of one instruction.
_Step = tuple[int, int, int, int]


def filter_program(architecture: int, calls: Sequence[Call]) -> bytes:
    """Let `calls` through on `architecture`, an audit number; refuse all others with EPERM.

    A call by the rules of another architecture, where numbers mean other calls, ends the process.
    """
    steps: list[_Step] = [
        (_LOAD_WORD, _OFFSET_ARCHITECTURE, 0, 0),
        (_JUMP_EQUAL, architecture, 1, 0),
        (_RETURN, _RET_KILL_PROCESS, 0, 0),
        (_LOAD_WORD, _OFFSET_NUMBER, 0, 0),
    ]
    for call in calls:
        body = _body(call.conditions)
        steps += [(_JUMP_EQUAL, call.number, 0, len(body)), *body]
    steps.append((_RETURN, _RET_ERRNO | errno.EPERM, 0, 0))
    return b"".join(struct.pack("=HBBI", code, if_true, if_false, value) for code, value, if_true, if_false in steps)


def _body(conditions: Sequence[Condition]) -> list[_Step]:
    steps = [step for condition in conditions for step in _checks(condition)]
    steps.append((_RETURN, _RET_ALLOW, 0, 0))
    if not conditions:
        return steps
    refusal = len(steps)

    def resolved(jump: int, place: int) -> int:
        return refusal - place - 1 if jump == _REFUSE else jump

    steps = [
        (code, value, resolved(if_true, place), resolved(if_false, place))
        for place, (code, value, if_true, if_false) in enumerate(steps)
    ]
    return [*steps, (_RETURN, _RET_ERRNO | errno.EPERM, 0, 0)]


def _checks(condition: Condition) -> list[_Step]:
    # Both architectures are little-endian: the low word comes first.
    low = _OFFSET_ARGUMENTS + 8 * condition.argument
    match condition:
        case OneOf(values=values):
            last = len(values) - 1
            return [
                (_LOAD_WORD, low, 0, 0),
                *((_JUMP_EQUAL, value & _WORD, last - i, 0 if i < last else _REFUSE) for i, value in enumerate(values)),
            ]
        case Within(bits=bits, needed=needed):
            steps: list[_Step] = []
            for place, shift in ((low, 0), (low + 4, 32)):
                steps += [
                    (_LOAD_WORD, place, 0, 0),
                    (_JUMP_ANY_BIT, ~(bits >> shift) & _WORD, _REFUSE, 0),
                    (_AND, (needed >> shift) & _WORD, 0, 0),
                    (_JUMP_EQUAL, (needed >> shift) & _WORD, 0, _REFUSE),
                ]
            return steps
