import io
from pathlib import Path

import pytest

from service.client.uploads import CHUNK_BYTES, Upload


def body(upload: Upload) -> bytes:
    return b"".join(upload.chunks(lambda sent, size: None))


def test_a_stream_is_sent_from_where_it_stands_and_again_from_there() -> None:
    stream = io.BytesIO(b"0123456789")
    stream.seek(4)
    upload = Upload(stream)
    assert (upload.size, body(upload), body(upload)) == (6, b"456789", b"456789")


def test_a_file_that_grows_is_sent_at_the_length_that_was_announced(tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(b"abc")
    upload = Upload(path)
    path.write_bytes(b"abcdef")
    assert (upload.size, body(upload)) == (3, b"abc")


def test_a_body_is_read_in_pieces_and_each_is_reported() -> None:
    reports: list[tuple[int, int | None]] = []
    size = 2 * CHUNK_BYTES + 1
    pieces = list(Upload(bytes(size)).chunks(lambda sent, total: reports.append((sent, total))))
    assert [len(piece) for piece in pieces] == [CHUNK_BYTES, CHUNK_BYTES, 1]
    assert reports == [(CHUNK_BYTES, size), (2 * CHUNK_BYTES, size), (size, size)]


async def test_the_same_is_read_without_blocking(tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(bytes(range(256)) * 2048)
    upload = Upload(path)
    assert b"".join([piece async for piece in upload.async_chunks(lambda sent, size: None)]) == body(upload)


def test_a_file_that_cannot_be_read_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Upload(tmp_path / "missing")
