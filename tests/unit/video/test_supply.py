"""A file whose bytes come when they are read."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.video.supply import BLOCK_BYTES, SuppliedFile, request_of

DATA = os.urandom(3 * BLOCK_BYTES + 100)


class Asked:
    """Fulfils requests, and remembers them."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(len(DATA)))
        self.requests: list[list[int]] = []
        self._file = path.open("r+b")
        self.file = SuppliedFile(self._file.fileno(), len(DATA), self.ask)

    def ask(self, request: dict[str, list[int]]) -> None:
        offset, length = request["want"]
        assert request_of(json.dumps(request).encode(), len(DATA)) == (offset, length)
        self.requests.append([offset, length])
        os.pwrite(self._file.fileno(), DATA[offset : offset + length], offset)

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path / "file")
    yield asked
    asked.close()


def test_what_is_read_is_asked_for_in_whole_blocks(asked: Asked) -> None:
    assert asked.file.read(BLOCK_BYTES - 5, 10) == DATA[BLOCK_BYTES - 5 :][:10]
    assert asked.requests == [[0, 2 * BLOCK_BYTES]]


def test_what_is_there_is_not_asked_for_again(asked: Asked) -> None:
    for _ in range(2):
        assert asked.file.read(7, 9) == DATA[7:16]
    assert len(asked.requests) == 1


def test_the_end_of_the_file_is_its_end(asked: Asked) -> None:
    assert asked.file.read(len(DATA) - 5, 50) == DATA[-5:]
    assert asked.file.read(len(DATA), 1) == b""
    assert asked.requests == [[3 * BLOCK_BYTES, 100]]


def test_it_reads_and_seeks_as_any_file(asked: Asked) -> None:
    with asked.file.open("rb") as file:
        assert file.read() == DATA
        assert file.seek(-10, os.SEEK_END) == len(DATA) - 10
        assert file.read(20) == DATA[-10:]
        assert file.seek(5) == 5
        file.seek(3, os.SEEK_CUR)
        assert (file.tell(), file.read(2)) == (8, DATA[8:10])
        with pytest.raises(OSError, match="before the beginning"):
            file.seek(-1)


@pytest.mark.parametrize("message", [b"{}", b'{"ok": 1}', b"[1]", b"nothing", b"x" * 200, b'{"want": [0, 1], "x": 1}'])
def test_another_message_is_no_request(message: bytes) -> None:
    assert request_of(message, 100) is None


@pytest.mark.parametrize("want", [[0, 101], [100, 1], [-1, 5], [0, 0], [0, -1], [0], [0, 1, 2], "0", [0.0, 1.0], None])
def test_a_request_for_what_is_no_part_of_the_file_is_a_fault(want: object) -> None:
    with pytest.raises(ValueError, match="no part"):
        request_of(json.dumps({"want": want}).encode(), 100)
