import hashlib
import os
import shutil
import sys
import tracemalloc
from pathlib import Path

import pytest

from service.api.shares import Shares
from service.api.spool import PIECE_BYTES, WRITE_BYTES, Spool, SpoolConfig
from service.errors import DiskFull, UploadTooLarge


def config(directory: Path, *, max_upload_bytes: int = 10_000_000, min_free_bytes: int = 0) -> SpoolConfig:
    return SpoolConfig(directory, max_upload_bytes, min_free_bytes)


async def test_the_upload_holds_the_bytes_that_were_written(tmp_path: Path) -> None:
    chunks = [bytes([i]) * 700_000 for i in range(5)]
    async with Spool(config(tmp_path)) as spool:
        for chunk in chunks:
            await spool.write(chunk)
        assert await spool.finish() == 3_500_000
        assert spool.upload.read_bytes() == b"".join(chunks)


async def test_pieces_of_all_sizes_and_kinds_keep_their_order(tmp_path: Path) -> None:
    whole = os.urandom(3 * WRITE_BYTES)
    sizes = [1, 1, PIECE_BYTES, 7, PIECE_BYTES + 1, PIECE_BYTES - 1, 300_000, 1]
    async with Spool(config(tmp_path)) as spool:
        at = 0
        while at < len(whole):
            size = sizes[at % len(sizes)]
            piece = whole[at : at + size] if at % 2 else memoryview(whole)[at : at + size]
            await spool.write(piece)
            at += size
        await spool.finish()
        assert spool.upload.read_bytes() == whole
        assert spool.sha256 == hashlib.sha256(whole).hexdigest()


async def test_an_upload_that_trickles_in_takes_little_more_memory_than_its_bytes(tmp_path: Path) -> None:
    async with Spool(config(tmp_path)) as spool:
        tracemalloc.start()
        try:
            for _ in range(20_000):
                await spool.write(memoryview(b"x"))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < 10 * 20_000


async def test_a_spool_that_is_not_hashed_has_no_digest(tmp_path: Path) -> None:
    async with Spool(config(tmp_path), hashed=False) as spool:
        await spool.write(b"x")
        await spool.finish()
        with pytest.raises(ValueError, match="keeps no SHA-256"):
            _ = spool.sha256


@pytest.mark.parametrize("size", [1, WRITE_BYTES - 1, WRITE_BYTES, 3 * WRITE_BYTES])
async def test_nothing_is_left_behind_whatever_happens(tmp_path: Path, size: int) -> None:
    async def fail_while_decoding() -> None:
        async with Spool(config(tmp_path)) as spool:
            await spool.write(bytes(size))
            await spool.finish()
            spool.expect_clips(size)
            assert spool.upload.read_bytes() == bytes(size)
            spool.clips.write_bytes(b"y")
            raise RuntimeError

    before = len(os.listdir("/dev/fd"))
    with pytest.raises(RuntimeError):
        await fail_while_decoding()
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
async def test_a_small_upload_and_its_clips_never_reach_the_disk(tmp_path: Path) -> None:
    async with Spool(config(tmp_path)) as spool:
        await spool.write(b"x" * 100)
        await spool.finish()
        spool.expect_clips(1000)
        spool.clips.write_bytes(b"y" * 1000)
        assert (spool.upload.read_bytes(), spool.clips.read_bytes()) == (b"x" * 100, b"y" * 1000)
        assert list(tmp_path.iterdir()) == []


async def test_many_clips_go_to_disk(tmp_path: Path) -> None:
    async with Spool(config(tmp_path)) as spool:
        spool.expect_clips(WRITE_BYTES + 1)
        assert spool.clips.parent == tmp_path


async def test_a_byte_too_many_is_refused_with_limit_and_value(tmp_path: Path) -> None:
    async with Spool(config(tmp_path, max_upload_bytes=10)) as spool:
        await spool.write(b"x" * 10)
        with pytest.raises(UploadTooLarge) as caught:
            await spool.write(b"x")
    assert (caught.value.limit, caught.value.actual) == (10, 11)


async def test_uploads_are_refused_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    with pytest.raises(DiskFull) as caught:
        async with Spool(config(tmp_path, min_free_bytes=shutil.disk_usage(tmp_path).total * 2)):
            pass
    assert caught.value.retry_after_s


@pytest.mark.parametrize("size", [1, WRITE_BYTES])
async def test_uploads_of_the_same_moment_do_not_share_a_file(tmp_path: Path, size: int) -> None:
    async with Spool(config(tmp_path)) as one, Spool(config(tmp_path)) as two:
        for spool, byte in ((one, b"1"), (two, b"2")):
            await spool.write(byte * size)
            await spool.finish()
        assert one.upload != two.upload
        assert (one.upload.read_bytes(), two.upload.read_bytes()) == (b"1" * size, b"2" * size)


@pytest.mark.parametrize("size", [1, WRITE_BYTES])
async def test_only_the_service_can_read_an_upload(tmp_path: Path, size: int) -> None:
    async with Spool(config(tmp_path)) as spool:
        await spool.write(bytes(size))
        await spool.finish()
        assert spool.upload.stat().st_mode & 0o077 == 0


async def test_the_disk_is_looked_at_while_an_upload_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [10 * WRITE_BYTES]
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free[0]}))
    async with Spool(config(tmp_path, min_free_bytes=8 * WRITE_BYTES)) as spool:
        await spool.write(bytes(WRITE_BYTES))
        free[0] = 8 * WRITE_BYTES
        with pytest.raises(DiskFull) as caught:
            await spool.write(bytes(WRITE_BYTES))
    assert (caught.value.limit, caught.value.actual) == (8 * WRITE_BYTES, 8 * WRITE_BYTES)


async def test_one_caller_leaves_others_a_part_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are real, the disk has room for eight times what is written to it at once."""

    def usage(directory: Path) -> object:
        taken = sum(file.stat().st_size for file in directory.iterdir())
        return type("Usage", (), {"free": 8 * WRITE_BYTES - taken})

    monkeypatch.setattr("shutil.disk_usage", usage)
    shared = Shares(0.75).of("spool", 0)
    async with (
        Spool(config(tmp_path), shared=shared, caller="a") as first,
        Spool(config(tmp_path), shared=shared, caller="a") as second,
        Spool(config(tmp_path), shared=shared, caller="b") as other,
    ):
        for _ in range(3):
            await first.write(bytes(WRITE_BYTES))
            await second.write(bytes(WRITE_BYTES))
        with pytest.raises(DiskFull, match="of this caller") as caught:
            await first.write(bytes(WRITE_BYTES))
        assert (caught.value.limit, caught.value.actual) == (6 * WRITE_BYTES, 7 * WRITE_BYTES)
        await other.write(bytes(WRITE_BYTES))
        assert shared.total == 7 * WRITE_BYTES
    assert shared.total == 0


async def test_a_spool_can_hold_a_file_that_arrived_earlier_and_leaves_it_where_it_is(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    async with Spool(config(tmp_path)) as spool:
        spool.adopt(earlier, 3, digest)
        assert (spool.upload.read_bytes(), spool.received, spool.sha256) == (b"abc", 3, digest)
    assert list(tmp_path.iterdir()) == [earlier]
