"""The keys that answers are signed with, and those that say whether a signature holds: Ed25519, in PEM or as JWK."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from service.canonical_json import canonical_json
from service.errors import InvalidSigningKey, sentence

ALGORITHM = "EdDSA"
MAX_FILE_BYTES = 1 << 20

_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True)
class VerificationKey:
    """A public key with which signatures of answers are checked."""

    public: Ed25519PublicKey

    @cached_property
    def id(self) -> str:
        """Its thumbprint (RFC 7638): SHA-256 of its members in canonical JSON, in base64url."""
        return base64url(hashlib.sha256(canonical_json(self._members)).digest())

    @property
    def jwk(self) -> dict[str, str]:
        """As a JSON Web Key (RFC 8037)."""
        return {**self._members, "kid": self.id, "alg": ALGORITHM, "use": "sig"}

    @property
    def pem(self) -> str:
        """As `openssl pkey -pubout` writes it."""
        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def _members(self) -> dict[str, str]:
        return {"crv": "Ed25519", "kty": "OKP", "x": base64url(self.public.public_bytes_raw())}


def new_signing_key() -> str:
    """A new private key, in PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a file in PEM.

    Raises InvalidSigningKey where it cannot be read, where it is no Ed25519 key without a passphrase, and where every
    user of the machine may read it.
    """
    text, mode = _read(path)
    if mode & 0o007:
        raise InvalidSigningKey(
            f"The signing key {path} has mode {mode:04o}: every user of the machine may use it. Let only its owner, or"
            " its group, read it (`chmod 640`).",
            limit="0640",
            actual=f"{mode:04o}",
        )
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError:
        detail = f"The signing key {path} is encrypted. Write it without a passphrase."
        raise InvalidSigningKey(detail) from None
    except (ValueError, UnsupportedAlgorithm):
        # The text of such an error may say something about the key.
        detail = f"The file {path} holds no private key in PEM. `vidtr keys signing FILE` makes one."
        raise InvalidSigningKey(detail) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _of_another_kind("signing key", path, key)
    return key


def read_public_keys(path: Path) -> tuple[VerificationKey, ...]:
    """The public keys of a file: in PEM, one after the other, or a JSON Web Key Set. Raises InvalidSigningKey."""
    text, _ = _read(path)
    if text.lstrip().startswith(b"{"):
        try:
            return keys_of_set(json.loads(text))
        except ValueError as error:
            raise InvalidSigningKey(f"The file {path} holds no public keys: {sentence(str(error))}") from error
    if _PRIVATE.search(text):
        detail = f"The file {path} holds a private key. Put public keys there, as `openssl pkey -pubout` writes them."
        raise InvalidSigningKey(detail)
    found: list[VerificationKey] = []
    for pem in _PUBLIC.findall(text):
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            detail = f"The file {path} has a public key that cannot be read, its number {len(found) + 1}."
            raise InvalidSigningKey(detail) from error
        if not isinstance(key, Ed25519PublicKey):
            raise _of_another_kind("public key", path, key)
        found.append(VerificationKey(key))
    if not found:
        raise InvalidSigningKey(f"The file {path} holds no public key in PEM, as `openssl pkey -pubout` writes it.")
    return tuple(found)


def published_keys(private_file: Path | None, public_file: Path | None) -> tuple[VerificationKey, ...]:
    """The public keys that a service lists: that of its signing key, and those of a file. Raises InvalidSigningKey."""
    signing = () if private_file is None else (VerificationKey(read_signing_key(private_file).public_key()),)
    others = () if public_file is None else read_public_keys(public_file)
    return tuple({key.id: key for key in (*signing, *others)}.values())


def keys_of_set(document: Any) -> tuple[VerificationKey, ...]:
    """The Ed25519 keys of a JSON Web Key Set. Raises ValueError where it is none, or has no such key."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("it is no JSON Web Key Set: it has no list `keys`")
    found = []
    for jwk in document["keys"]:
        if isinstance(jwk, dict) and (jwk.get("kty"), jwk.get("crv")) == ("OKP", "Ed25519"):
            if "d" in jwk:
                raise ValueError("it holds a private key, the member `d`")
            found.append(VerificationKey(Ed25519PublicKey.from_public_bytes(from_base64url(str(jwk.get("x"))))))
    if not found:
        raise ValueError(f"none of its {len(document['keys'])} keys is of Ed25519")
    return tuple(found)


def base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Inverse of `base64url`; no other text stands for the same bytes. Raises ValueError."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(data) != text:
        raise ValueError("it is not in base64url")
    return data


def _read(path: Path) -> tuple[bytes, int]:
    """What is in a file of keys, and its permissions."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        detail = f"The file of keys {path} cannot be read: {sentence(error.strerror or str(error))}"
        raise InvalidSigningKey(detail) from error
    if len(text) > MAX_FILE_BYTES:
        detail = f"The file of keys {path} has more than {MAX_FILE_BYTES} bytes."
        raise InvalidSigningKey(detail, limit=MAX_FILE_BYTES)
    return text, mode


def _of_another_kind(what: str, path: Path, key: object) -> InvalidSigningKey:
    kind = re.sub(r"^_|(Private|Public)Key$", "", type(key).__name__)
    return InvalidSigningKey(
        f"The {what} in {path} is of {kind}, and must be of Ed25519 (`openssl genpkey -algorithm ed25519`).",
        limit="Ed25519",
        actual=kind,
    )
