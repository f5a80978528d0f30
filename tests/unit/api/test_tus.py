"""The header fields of resumable uploads."""

import base64
import hashlib

import pytest

from service.api import tus
from service.errors import ChecksumMismatch, MalformedRequest, TusVersion, UnsupportedMediaType


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def test_a_request_of_this_version_passes() -> None:
    tus.check_version({"tus-resumable": "1.0.0"})


@pytest.mark.parametrize("headers", [{}, {"tus-resumable": "0.2.2"}])
def test_a_request_of_another_version_is_told_which_one_is_spoken(headers: dict[str, str]) -> None:
    with pytest.raises(TusVersion) as refused:
        tus.check_version(headers)
    assert refused.value.limit == "1.0.0"


def test_a_body_that_is_no_piece_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        tus.check_body_type({"content-type": "video/mp4"})


def test_parameters_of_the_content_type_do_not_matter() -> None:
    tus.check_body_type({"content-type": "Application/offset+octet-stream; a=b"})


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "\u0661", "9007199254740992", "0x10"])
def test_what_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest):
        tus.number({"upload-length": text}, "Upload-Length")


def test_a_number_that_is_missing_is_named() -> None:
    with pytest.raises(MalformedRequest, match="Upload-Offset"):
        tus.number({}, "Upload-Offset")


def test_metadata_are_names_with_values_in_base64() -> None:
    text = f"filename {encoded(b'a b.mp4')}, is_private,type {encoded(b'video')}"
    assert tus.metadata({"upload-metadata": text}) == {"filename": b"a b.mp4", "is_private": b"", "type": b"video"}


@pytest.mark.parametrize("text", ["filename ???", ",", f"a {encoded(bytes(5000))}"])
def test_metadata_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(MalformedRequest):
        tus.metadata({"upload-metadata": text})


def test_a_digest_that_is_announced_is_a_sha_256() -> None:
    digest = hashlib.sha256(b"a").hexdigest()
    assert tus.announced_sha256({"sha256": digest.upper().encode()}) == digest
    assert tus.announced_sha256({}) == ""
    with pytest.raises(MalformedRequest):
        tus.announced_sha256({"sha256": b"abc"})


@pytest.mark.parametrize("algorithm", tus.ALGORITHMS)
def test_a_checksum_that_is_right_passes(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"abcdef").digest()
    checksum = tus.Checksum.of({"upload-checksum": f"{algorithm} {encoded(digest)}"})
    assert checksum is not None
    checksum.update(b"abc")
    checksum.update(b"def")
    checksum.check()


def test_a_checksum_that_is_wrong_is_a_mismatch() -> None:
    checksum = tus.Checksum.of({"upload-checksum": f"sha1 {encoded(bytes(20))}"})
    assert checksum is not None
    with pytest.raises(ChecksumMismatch):
        checksum.check()


@pytest.mark.parametrize("text", ["md5 YQ==", "sha1 ???", ""])
def test_a_checksum_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest):
        tus.Checksum.of({"upload-checksum": text})
