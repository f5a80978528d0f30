"""The header fields of tus 1.0, the protocol of resumable uploads (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from service.api.resumable_store import Arrived
from service.errors import ChecksumMismatch, MalformedRequest, TusVersion, UnsupportedMediaType

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
ALGORITHMS = ("sha1", "sha256")
BODY_TYPE = "application/offset+octet-stream"
REQUEST_HEADERS = (
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "X-HTTP-Method-Override",
)
ANSWER_HEADERS = (
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
)
MAX_METADATA_BYTES = 4096
# JavaScript's largest whole number: beyond it clients no longer count bytes.
LARGEST = (1 << 53) - 1


def capabilities(most_bytes: int) -> dict[str, str]:
    """What the server says of itself."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(most_bytes),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def check_version(headers: Mapping[str, str]) -> None:
    """Raises TusVersion for a request of another version, or of none."""
    version = headers.get("tus-resumable", "")
    if version != VERSION:
        named = f"Tus-Resumable is {version!r}" if version else "The request has no Tus-Resumable"
        raise TusVersion(f"{named}; this server speaks {VERSION}.", limit=VERSION, actual=version)


def check_body_type(headers: Mapping[str, str]) -> None:
    """Raises UnsupportedMediaType where the body is no piece of an upload."""
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != BODY_TYPE:
        raise UnsupportedMediaType(
            f"Content type {kind!r} is not accepted. Send pieces of uploads as {BODY_TYPE}.", actual=kind
        )


def number(headers: Mapping[str, str], name: str) -> int:
    """A header field that is a whole number of bytes. Raises MalformedRequest."""
    text = headers.get(name.lower())
    if text is None:
        raise MalformedRequest(f"The request has no {name}. Send the number of bytes.")
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(LARGEST)) or int(text) > LARGEST:
        raise MalformedRequest(f"{name} is {text!r}, which is no number of bytes up to {LARGEST}.", actual=text)
    return int(text)


def metadata(headers: Mapping[str, str]) -> dict[str, bytes]:
    """The pairs of `Upload-Metadata`. Raises MalformedRequest."""
    text = headers.get("upload-metadata", "")
    if len(text) > MAX_METADATA_BYTES:
        raise MalformedRequest(
            f"Upload-Metadata has {len(text)} bytes; at most {MAX_METADATA_BYTES} are accepted.",
            limit=MAX_METADATA_BYTES,
            actual=len(text),
        )
    pairs: dict[str, bytes] = {}
    for pair in text.split(",") if text.strip() else ():
        name, _, value = pair.strip().partition(" ")
        if not name:
            raise MalformedRequest("Upload-Metadata has a pair without a name.")
        pairs[name] = _decoded("Upload-Metadata", value)
    return pairs


def announced_sha256(pairs: Mapping[str, bytes]) -> str:
    """The digest that metadata announces under `sha256`, as hexadecimal text; empty without one.

    Raises MalformedRequest.
    """
    digest = pairs.get("sha256", b"").decode("ascii", "replace").lower()
    if digest and (len(digest) != 64 or any(letter not in "0123456789abcdef" for letter in digest)):
        raise MalformedRequest(
            f"The sha256 of Upload-Metadata is {digest!r}, which is no SHA-256 in hexadecimal.", actual=digest
        )
    return digest


@dataclass
class Checksum:
    """`Upload-Checksum` of one request, and the digest of what has arrived of it."""

    algorithm: str
    expected: bytes
    _digest: Any

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Checksum | None:
        """That of a request; None without one. Raises MalformedRequest."""
        text = headers.get("upload-checksum")
        if text is None:
            return None
        algorithm, _, value = text.partition(" ")
        if algorithm not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            raise MalformedRequest(
                f"Upload-Checksum is by {algorithm!r}; accepted are {known}.", limit=known, actual=algorithm
            )
        return cls(algorithm, _decoded("Upload-Checksum", value), hashlib.new(algorithm, usedforsecurity=False))

    def update(self, data: bytes | bytearray) -> None:
        """More has arrived."""
        self._digest.update(data)

    def check(self) -> None:
        """Raises ChecksumMismatch where what arrived is not what was sent."""
        found = self._digest.digest()
        if found != self.expected:
            raise ChecksumMismatch(
                f"What arrived has the {self.algorithm} {base64.b64encode(found).decode()}; it was dropped."
                " Send it again.",
                limit=base64.b64encode(self.expected).decode(),
                actual=base64.b64encode(found).decode(),
            )


def state_headers(arrived: Arrived) -> dict[str, str]:
    """How an upload stands."""
    return {"Upload-Offset": str(arrived.offset), "Upload-Expires": formatdate(arrived.expires_at, usegmt=True)}


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedRequest(f"{name} has {value!r}, which is not Base64.", actual=value) from None
