"""A checkpoint is data: whatever its pickle asks for, nothing of it is run."""

import io
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from service.model.weights import CheckpointError, read_checkpoint
from service.model.weights.restricted_pickle import load_tensors

TENSOR = {"matrix": torch.arange(6.0).view(2, 3)}


class Call:
    """Pickles as a call, which unpickling makes."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class CallWithState(Call):
    """Pickles as a call whose result then gets a state and items."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (*self.call, {"x": 1}, iter([1, 2]), iter([("key", 3)]))


def touch(marker: Path) -> list[Call]:
    """Calls that leave a file behind, each by another road."""
    code = f"open({str(marker)!r}, 'w').close()"
    return [
        Call(__import__("os").system, f"touch {marker}"),
        Call(eval, code),
        Call(exec, code),
        Call(subprocess.Popen, [sys.executable, "-c", code]),
        CallWithState(Path.touch, marker),
        Call(torch.load, str(marker.with_suffix(".inner"))),
        Call(torch.storage._load_from_bytes, _pickled(Call(exec, code))),
    ]


def _pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


PLACES: dict[str, Callable[[Call], object]] = {
    "the file": lambda call: call,
    "the weights": lambda call: {"model": call},
    "a weight": lambda call: {"model": {"matrix": call}},
    "a flat weight": lambda call: {"matrix": call},
}


@pytest.mark.parametrize("road", range(7))
@pytest.mark.parametrize("place", PLACES)
def test_a_call_in_place_of_weights_is_refused_and_not_made(tmp_path: Path, place: str, road: int) -> None:
    marker = tmp_path / "marker"
    torch.save(PLACES[place](touch(marker)[road]), tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"foreign class|no tensor"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not marker.exists()


@pytest.mark.parametrize("road", range(7))
def test_a_call_beside_the_weights_is_not_made(tmp_path: Path, road: int) -> None:
    marker = tmp_path / "marker"
    torch.save({"config": touch(marker)[road], "model": TENSOR}, tmp_path / "evil.pth")
    assert torch.equal(read_checkpoint(tmp_path / "evil.pth")["matrix"], TENSOR["matrix"])
    assert not marker.exists()


def test_the_same_file_read_without_care_does_make_the_call(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"config": touch(marker)[1], "model": TENSOR}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("road", range(6))
def test_a_call_in_a_file_of_an_old_pytorch_is_refused_and_not_made(tmp_path: Path, road: int) -> None:
    marker = tmp_path / "marker"
    content = {"config": touch(marker)[road], "model": TENSOR}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="read safely"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_in_a_bare_pickle_is_refused_and_not_made(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(touch(marker)[1], protocol))
    with pytest.raises(CheckpointError, match="read safely"):
        read_checkpoint(tmp_path / "evil.pkl")
    assert not marker.exists()


def test_a_numpy_archive_of_objects_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    np.savez(tmp_path / "evil.npz", cls=np.array([touch(marker)[1]], dtype=object))
    with pytest.raises(CheckpointError, match="damaged NumPy archive"):
        read_checkpoint(tmp_path / "evil.npz")
    assert not marker.exists()


def test_a_torchscript_module_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.(script|save)` is deprecated")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "scripted.pt")
    with pytest.raises(CheckpointError, match="foreign class"):
        read_checkpoint(tmp_path / "scripted.pt")


# --- the restricted unpickler alone ------------------------------------------------------------------------------


def archive(path: Path, program: bytes, storage: bytes = b"\0" * 16, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/data/0", storage)
    return path


class Storage:
    """Pickles as the reference to storage 0 of an archive."""


class StoragePickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(obj, Storage) else None


def tensor_program(*arguments: object) -> bytes:
    buffer = io.BytesIO()
    StoragePickler(buffer, 2).dump({"matrix": Call(torch._utils._rebuild_tensor_v2, Storage(), *arguments, False, {})})
    return buffer.getvalue()


def test_a_tensor_within_its_storage_is_rebuilt(tmp_path: Path) -> None:
    content = torch.arange(4.0).numpy().tobytes()
    loaded = load_tensors(archive(tmp_path / "a.pth", tensor_program(1, (3,), (1,)), content))
    assert loaded["matrix"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(1, (4,), (1,)), (0, (2, 3), (3, 1)), (-1, (2,), (1,)), (3, (2,), (-1,)), (0, (1 << 40,), (0,)), (9, (1,), (1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = archive(tmp_path / "a.pth", tensor_program(offset, size, stride))
    with pytest.raises(pickle.UnpicklingError, match="beyond its storage"):
        load_tensors(path)


def test_a_compressed_storage_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pth", tensor_program(0, (4,), (1,)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(pickle.UnpicklingError, match="compressed"):
        load_tensors(path)


def test_a_tensors_state_is_not_set(tmp_path: Path) -> None:
    program = tensor_program(0, (4,), (1,))
    end = program.rindex(pickle.SETITEM)
    # An empty tuple as the tensor's state, which the tensor itself would fail on.
    changed = program[:end] + pickle.EMPTY_TUPLE + pickle.BUILD + program[end:]
    assert load_tensors(archive(tmp_path / "a.pth", changed))["matrix"].shape == (4,)


def test_a_memo_index_does_not_decide_how_much_memory_is_taken(tmp_path: Path) -> None:
    program = (
        pickle.PROTO + bytes([2]) + pickle.EMPTY_DICT + pickle.LONG_BINPUT + bytes.fromhex("ffffff7f") + pickle.STOP
    )
    tracemalloc.start()
    try:
        assert load_tensors(archive(tmp_path / "a.pth", program)) == {}
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(noise=st.binary(max_size=60), cut=st.integers(0, 200))
def test_damaged_pickles_end_in_an_unpickling_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int
) -> None:
    program = tensor_program(0, (4,), (1,))
    path = archive(tmp_path_factory.getbasetemp() / "damaged.pth", program[:cut] + noise + program[cut + len(noise) :])
    try:
        load_tensors(path)
    except pickle.UnpicklingError:
        return


def nest(levels: int) -> tuple[object, ...]:
    """A tuple of two tuples of two tuples …: few bytes, and 2 ** levels parts for whoever walks it."""
    key: tuple[object, ...] = ()
    for _ in range(levels):
        key = (key, key)
    return key


def nest_program(levels: int, end: bytes) -> bytes:
    """A pickle that makes such a tuple out of one that is there already, without ever walking it."""
    return pickle.PROTO + bytes([2]) + pickle.EMPTY_DICT + b")" + levels * (pickle.DUP + pickle.TUPLE2) + end


def test_a_name_that_is_a_tuple_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nested.pt"
    torch.save({nest(3): torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="a tuple and no text"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "end",
    [b"N" + pickle.SETITEM + pickle.STOP, pickle.POP + pickle.STOP],
    ids=["as a key", "left alone"],
)
def test_a_nest_of_tuples_that_nobody_could_walk_is_refused_before_anybody_does(tmp_path: Path, end: bytes) -> None:
    with pytest.raises(CheckpointError, match="more than 100000 parts"):
        read_checkpoint(archive(tmp_path / "nested.pth", nest_program(60, end)))


def test_a_nest_of_tuples_is_found_in_a_file_of_the_format_before_archives(tmp_path: Path) -> None:
    path = tmp_path / "legacy.pth"
    torch.save({"a": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    first = content.index(pickle.STOP) + 1
    path.write_bytes(content[:first] + nest_program(60, b"N" + pickle.SETITEM + pickle.STOP))
    with pytest.raises(CheckpointError, match="more than 100000 parts"):
        read_checkpoint(path)


def test_a_nest_through_the_memo_is_counted_as_well(tmp_path: Path) -> None:
    path = tmp_path / "nested.pt"
    torch.save({"deep": nest(18), "weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="more than 100000 parts"):
        read_checkpoint(path)


def test_a_storage_under_two_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.pt"
    torch.save({"a": torch.arange(4.0), "b": Call(print)}, path)
    with zipfile.ZipFile(path) as source:
        records = {record.filename: source.read(record) for record in source.infolist()}
    [pickled] = [name for name in records if name.endswith("/data.pkl")]
    one = records[pickled]
    persistent = one[one.index(b"X\x07\x00\x00\x00storage") - 1 : one.index(b"Q") + 1]
    assert b"FloatStorage" in persistent
    # The first tensor's storage is named once more, as integers, before its own name.
    records[pickled] = one.replace(
        persistent, persistent.replace(b"FloatStorage", b"IntStorage") + b"0" + persistent, 1
    )
    with zipfile.ZipFile(path, "w") as target:
        for name, content in records.items():
            target.writestr(name, content)
    with pytest.raises(pickle.UnpicklingError, match="two types"):
        load_tensors(path)
