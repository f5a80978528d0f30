"""Uploads in pieces, on disk: what counts, who may append, what is refused, what expires."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from service.api.resumable_store import Appending, ResumableConfig, ResumableStore, StoredUpload
from service.api.shares import Shares
from service.errors import (
    ChecksumMismatch,
    DiskFull,
    TooManyUploads,
    UnknownUpload,
    UploadLocked,
    UploadOffsetMismatch,
    UploadTooLarge,
)

ANN = "ann".__eq__
LIMITS = ResumableConfig(
    max_resumable_bytes=1000,
    max_resumable_uploads=3,
    resumable_spool_bytes=5000,
    resumable_ttl_s=60.0,
    spool_min_free_bytes=0,
)


def store_in(folder: Path, config: ResumableConfig = LIMITS, share: float = 1.0) -> ResumableStore:
    return ResumableStore(folder, config, Shares(share))


@pytest.fixture
def store(tmp_path: Path) -> ResumableStore:
    return store_in(tmp_path / "resumable")


def begun(store: ResumableStore, length: int = 10, sha256: str = "") -> str:
    return store.create("ann", length, "", sha256).upload.id


def sent(store: ResumableStore, upload_id: str, offset: int, data: bytes, *, verify: bool = False) -> None:
    appending = store.append(upload_id, ANN, offset, verify=verify)
    appending.write(data)
    appending.close()


def test_a_new_upload_has_nothing(store: ResumableStore) -> None:
    arrived = store.find(begun(store), ANN)
    assert (arrived.offset, arrived.complete) == (0, False)


def test_pieces_follow_each_other(store: ResumableStore) -> None:
    upload = begun(store)
    sent(store, upload, 0, b"abcd")
    sent(store, upload, 4, b"efghij")
    assert store.find(upload, ANN).complete
    assert store.path(upload).read_bytes() == b"abcdefghij"


def test_another_process_with_the_same_folder_continues(store: ResumableStore, tmp_path: Path) -> None:
    upload = begun(store)
    sent(store, upload, 0, b"abcd")
    other = store_in(tmp_path / "resumable")
    sent(other, upload, 4, b"ef")
    assert store.find(upload, ANN).offset == 6


def test_an_upload_is_none_for_another_tenant(store: ResumableStore) -> None:
    with pytest.raises(UnknownUpload):
        store.find(begun(store), "bob".__eq__)


def test_an_id_that_never_was_is_unknown(store: ResumableStore) -> None:
    with pytest.raises(UnknownUpload):
        store.find("0" * 32, ANN)


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_a_piece_from_elsewhere_is_refused_with_what_has_arrived(store: ResumableStore, offset: int) -> None:
    upload = begun(store)
    sent(store, upload, 0, b"abcd")
    with pytest.raises(UploadOffsetMismatch) as refused:
        store.append(upload, ANN, offset, verify=False)
    assert (refused.value.limit, refused.value.actual) == (4, offset)
    sent(store, upload, 4, b"e")


def test_two_requests_cannot_append_at_a_time(store: ResumableStore) -> None:
    upload = begun(store)
    first = store.append(upload, ANN, 0, verify=False)
    with pytest.raises(UploadLocked):
        store.append(upload, ANN, 0, verify=False)
    first.close()
    store.append(upload, ANN, 0, verify=False).close()


def test_more_than_was_announced_is_refused(store: ResumableStore) -> None:
    appending = store.append(begun(store), ANN, 0, verify=False)
    with pytest.raises(UploadTooLarge) as refused:
        appending.check(11)
    assert (refused.value.limit, refused.value.actual) == (10, 11)
    appending.close()


def test_what_is_not_verified_does_not_count(store: ResumableStore) -> None:
    upload = begun(store)
    sent(store, upload, 0, b"ab")
    appending = store.append(upload, ANN, 2, verify=True)
    appending.write(b"wrong")
    assert store.find(upload, ANN).offset == 2
    appending.close()
    assert store.path(upload).read_bytes() == b"ab"


def test_what_is_verified_counts(store: ResumableStore) -> None:
    upload = begun(store)
    appending = store.append(upload, ANN, 0, verify=True)
    appending.write(b"right")
    appending.accept()
    appending.close()
    assert store.find(upload, ANN).offset == 5


def test_what_a_killed_process_left_unverified_is_dropped_by_the_next(store: ResumableStore) -> None:
    upload = begun(store)
    sent(store, upload, 0, b"ab")
    killed = store.append(upload, ANN, 2, verify=True)
    killed.write(b"half")
    # The kernel gives its lock up; nothing else of it is done.
    os.close(killed._descriptor)
    assert store.find(upload, ANN).offset == 2
    sent(store, upload, 2, b"cd")
    assert store.path(upload).read_bytes() == b"abcd"


def test_a_complete_upload_that_is_not_what_was_announced_starts_again(store: ResumableStore) -> None:
    upload = begun(store, 4, hashlib.sha256(b"good").hexdigest())
    appending = store.append(upload, ANN, 0, verify=False)
    appending.write(b"evil")
    with pytest.raises(ChecksumMismatch):
        appending.check_whole()
    appending.close()
    assert store.find(upload, ANN).offset == 0


def test_a_complete_upload_that_is_what_was_announced_stays(store: ResumableStore) -> None:
    upload = begun(store, 4, hashlib.sha256(b"good").hexdigest())
    appending = store.append(upload, ANN, 0, verify=False)
    appending.write(b"good")
    appending.check_whole()
    appending.close()
    assert store.find(upload, ANN).complete


def test_an_upload_that_is_too_large_is_refused_before_it_begins(store: ResumableStore) -> None:
    with pytest.raises(UploadTooLarge) as refused:
        begun(store, 1001)
    assert (refused.value.limit, refused.value.actual) == (1000, 1001)


def test_a_caller_has_so_many_uploads_and_no_more(store: ResumableStore) -> None:
    first, *_ = [begun(store) for _ in range(3)]
    with pytest.raises(TooManyUploads) as refused:
        begun(store)
    assert (refused.value.limit, refused.value.actual) == (3, 3)
    assert store.create("bob", 10, "", "").offset == 0
    store.remove(first, ANN)
    begun(store)


def test_space_that_others_have_announced_is_not_given_away(
    store: ResumableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: _Usage(1500))
    begun(store, 1000)
    with pytest.raises(DiskFull) as refused:
        store.create("bob", 501, "", "")
    assert (refused.value.limit, refused.value.actual) == (500, 501)


def test_all_uploads_together_may_announce_so_much(store: ResumableStore) -> None:
    for caller in ("ann", "bob", "cid", "dan"):
        store.create(caller, 1000, "", "")
    with pytest.raises(DiskFull) as refused:
        store.create("eve", 1000, "", "") and store.create("fay", 1, "", "")
    assert (refused.value.limit, refused.value.actual) == (0, 1)


def test_one_caller_cannot_announce_all_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: _Usage(1500))
    store = store_in(tmp_path / "resumable", share=0.5)
    begun(store, 500)
    with pytest.raises(DiskFull):
        begun(store, 500)
    assert store.create("bob", 500, "", "").offset == 0


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_what_has_expired_is_unknown_and_then_gone(store: ResumableStore) -> None:
    old, young = begun(store), begun(store)
    os.utime(store.path(old), (0, 0))
    with pytest.raises(UnknownUpload):
        store.find(old, ANN)
    assert store.sweep() == 1
    assert not store.path(old).exists()
    assert store.find(young, ANN).offset == 0


def test_each_piece_puts_the_end_off(store: ResumableStore) -> None:
    upload = begun(store)
    before = store.find(upload, ANN).expires_at
    os.utime(store.path(upload), (before - 90, before - 90))
    sent(store, upload, 0, b"a")
    assert store.find(upload, ANN).expires_at >= before


def test_only_the_owner_of_the_process_can_read_the_files(store: ResumableStore) -> None:
    path = store.path(begun(store))
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a device that is always full")
def test_a_piece_that_finds_no_room_is_a_full_disk(tmp_path: Path) -> None:
    upload = StoredUpload(id="0" * 32, tenant="", length=10)
    appending = Appending(upload, Path("/dev/full"), tmp_path / "unverified")
    appending.begin(0, verify=False)
    with pytest.raises(DiskFull, match="full"):
        appending.write(b"abc")
    assert appending.offset == 0
    appending.close()
