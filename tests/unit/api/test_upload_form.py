"""Forms as the many libraries write them, in chunks of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.api.spool import Spool, SpoolConfig
from service.api.upload_form import FORM_OVERHEAD_BYTES, receive_form
from service.errors import MalformedRequest

VIDEO = bytes(range(256)) * 5 + b"\r\n--other\r\n--\r\n"
HEADERS = b'Content-Disposition: form-data; name="file"; filename="clip.mp4"\r\nContent-Type: video/mp4\r\n\r\n'


def form(before: bytes = b"", padding: bytes = b"", after: bytes = b"\r\n") -> bytes:
    return before + b"--limit" + padding + b"\r\n" + HEADERS + VIDEO + b"\r\n--limit--" + after


async def received(tmp_path: Path, body: bytes, size: int, boundary: bytes = b"limit") -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async with Spool(SpoolConfig(tmp_path, 1 << 20, 0), hashed=False) as spool:
        await receive_form(chunks(), spool, boundary)
        await spool.finish()
        return spool.upload.read_bytes()


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 16])
@pytest.mark.parametrize(
    "body",
    [
        form(),
        form(before=b"This is a message in the MIME format.\r\n"),
        form(before=b"\r\n"),
        form(before=b"--limited is another line\r\nand so is --limit\r\n"),
        form(padding=b" \t  "),
        form(after=b" \t\r\nAn epilogue.\r\n--limit\r\n"),
        form(after=b""),
    ],
    ids=["plain", "preamble", "line end", "nearly the boundary", "padding", "epilogue", "no last line end"],
)
async def test_the_file_of_a_form_is_taken_out(tmp_path: Path, body: bytes, size: int) -> None:
    assert await received(tmp_path, body, size) == VIDEO


@pytest.mark.parametrize(
    ("body", "boundary", "said"),
    [
        (form(), b"", "has no boundary"),
        (form(), b"another", "does not contain the boundary"),
        (b"-" * (2 * FORM_OVERHEAD_BYTES), b"limit", str(FORM_OVERHEAD_BYTES)),
        (form(padding=b" " * 200), b"limit", "no part named 'file'"),
        (b"--limit", b"limit", "does not contain the boundary"),
        (form()[:-12], b"limit", "closing boundary"),
        (b"--limit--\r\n", b"limit", "no part named 'file'"),
    ],
    ids=["no boundary", "another boundary", "endless preamble", "endless padding", "cut boundary", "cut end", "empty"],
)
async def test_a_form_that_is_none_is_told_what_it_lacks(
    tmp_path: Path, body: bytes, boundary: bytes, said: str
) -> None:
    with pytest.raises(MalformedRequest) as refusal:
        await received(tmp_path, body, 1 << 12, boundary)
    assert said in refusal.value.detail
