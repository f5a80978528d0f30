"""The filter of system calls, run as the kernel runs it, for each architecture that has one."""

from __future__ import annotations

import errno
import struct

import pytest

from service.video.bpf import Call, OneOf, Within, filter_program
from service.video.seccomp import permitted

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CONTROL = 5
ALLOWED, REFUSED, KILLED = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
WORD = 0xFFFFFFFF


def decision(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel does with a call, by the program: a machine of one register, whose jumps go forward."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & WORD, architecture, 0, *(value & (1 << 64) - 1 for value in padded))
    place, register = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        match code:
            case 0x20:
                (register,) = struct.unpack_from("<I", data, value)
            case 0x54:
                register &= value
            case 0x15:
                place += if_true if register == value else if_false
            case 0x45:
                place += if_true if register & value else if_false
            case 0x06:
                return int(value)


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def decided(machine: str, x86_64: int, aarch64: int, *arguments: int) -> int:
    architecture = ARCHITECTURES[machine]
    program = filter_program(architecture, permitted(machine, CONTROL))
    return decision(program, architecture, x86_64 if machine == "x86_64" else aarch64, arguments)


@pytest.mark.parametrize(
    ("x86_64", "aarch64", "arguments"),
    [
        pytest.param(0, 63, (3, 0, 10), id="read"),
        pytest.param(17, 67, (3, 0, 10), id="pread64"),
        pytest.param(9, 222, (0, 4096, 3, 0x22, WORD, 0), id="mmap of memory"),
        pytest.param(9, 222, (0, 4096, 0, 0x4022, -1, 0), id="mmap of a reserve"),
        pytest.param(10, 226, (0, 4096, 3), id="mprotect"),
        pytest.param(72, 25, (3, 1030, 3), id="fcntl(F_DUPFD_CLOEXEC)"),
        pytest.param(72, 25, (3, 7 << 32 | 1030, 3), id="fcntl with what the kernel ignores"),
        pytest.param(202, 98, (0, 128, 0), id="futex(FUTEX_WAIT_PRIVATE)"),
        pytest.param(202, 98, (0, 137 | 256, 0), id="futex(FUTEX_WAIT_BITSET)"),
        pytest.param(28, 233, (0, 4096, 4), id="madvise(MADV_DONTNEED)"),
        pytest.param(47, 212, (CONTROL, 0, 0), id="recvmsg of a task"),
    ],
)
def test_what_decoding_needs_is_let_through(
    machine: str, x86_64: int, aarch64: int, arguments: tuple[int, ...]
) -> None:
    assert decided(machine, x86_64, aarch64, *arguments) == ALLOWED


@pytest.mark.parametrize(
    ("x86_64", "aarch64", "arguments"),
    [
        pytest.param(9, 222, (0, 4096, 7, 0x22), id="mmap of code"),
        pytest.param(9, 222, (0, 4096, 1 << 32 | 3, 0x22), id="mmap with a protection of more bits"),
        pytest.param(9, 222, (0, 4096, 3, 0x21), id="mmap of shared memory"),
        pytest.param(9, 222, (0, 4096, 3, 0x02, 3), id="mmap of a file"),
        pytest.param(9, 222, (0, 4096, 3, 1 << 40 | 0x22), id="mmap with flags of more bits"),
        pytest.param(9, 222, (0, 4096, 3, 0x40022), id="mmap of huge pages"),
        pytest.param(10, 226, (0, 4096, 5), id="mprotect to code"),
        pytest.param(10, 226, (0, 4096, 1 << 63 | 3), id="mprotect with more bits"),
        pytest.param(25, 216, (0, 4096, 8192, 4), id="mremap(MREMAP_DONTUNMAP)"),
        pytest.param(72, 25, (3, 8, 1), id="fcntl(F_SETOWN)"),
        pytest.param(72, 25, (3, 15, 0), id="fcntl(F_SETOWN_EX)"),
        pytest.param(72, 25, (3, 10, 9), id="fcntl(F_SETSIG)"),
        pytest.param(72, 25, (3, 4, 0x2000), id="fcntl(F_SETFL)"),
        pytest.param(72, 25, (3, 1033, 15), id="fcntl(F_ADD_SEALS)"),
        pytest.param(202, 98, (0, 11, 0), id="futex(FUTEX_WAIT_REQUEUE_PI)"),
        pytest.param(28, 233, (0, 4096, 100), id="madvise(MADV_HWPOISON)"),
        pytest.param(47, 212, (CONTROL - 1, 0, 0), id="recvmsg of another"),
        pytest.param(77, 46, (3, 0), id="ftruncate"),
        pytest.param(285, 47, (3, 3, 0, 1), id="fallocate"),
        pytest.param(257, 56, (-100, 0, 0), id="openat"),
        pytest.param(62, 129, (1, 9), id="kill"),
        pytest.param(1 << 30, 1 << 30, (), id="x32"),
    ],
)
def test_what_it_does_not_need_is_refused(machine: str, x86_64: int, aarch64: int, arguments: tuple[int, ...]) -> None:
    assert decided(machine, x86_64, aarch64, *arguments) == REFUSED


def test_a_call_by_the_numbers_of_another_architecture_ends_the_process(machine: str) -> None:
    program = filter_program(ARCHITECTURES[machine], permitted(machine, CONTROL))
    for architecture in (0x40000003, *ARCHITECTURES.values()):
        if architecture != ARCHITECTURES[machine]:
            assert decision(program, architecture, 0) == KILLED


def test_all_conditions_of_a_call_have_to_hold() -> None:
    program = filter_program(1, [Call(7, (OneOf(0, (1, 2)), Within(1, 0x1_0000_0003, 0x1_0000_0000))), Call(8)])
    outcomes = {
        (first, second): decision(program, 1, 7, (first, second))
        for first in (0, 1, 2, 3)
        for second in (0, 1, 1 << 32, 1 << 32 | 3, 1 << 32 | 4, 3 << 32)
    }
    allowed = {arguments for arguments, outcome in outcomes.items() if outcome == ALLOWED}
    assert allowed == {(first, second) for first in (1, 2) for second in (1 << 32, 1 << 32 | 3)}
    assert decision(program, 1, 8) == ALLOWED
    assert decision(program, 1, 9) == REFUSED
