"""Signatures of answers: a JWS (RFC 7515) with a detached payload, by Ed25519 over the canonical JSON of the answer.

The payload is the answer without its signature, so that it stands there once and can be read without unpacking it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.canonical_json import canonical_json
from service.signing_keys import ALGORITHM, VerificationKey, base64url, from_base64url

# The type in the header: no signature that the key makes of something else can pass for one of an answer.
TYPE = "vidtr-answer"
# The member of an answer that has its signature.
MEMBER = "signature"

_DETACHED = re.compile(r"([\w-]+)\.\.([\w-]+)", re.ASCII)


def header_of(key: VerificationKey) -> str:
    """What the signatures of a key begin with, up to the first dot."""
    return base64url(canonical_json({"alg": ALGORITHM, "kid": key.id, "typ": TYPE}))


def key_of(signature: str) -> str | None:
    """The id of the key that a signature names; None for what is no signature of an answer."""
    try:
        return _key_id(_parts(signature)[0])
    except ValueError:
        return None


class Signer:
    """Signs answers with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = VerificationKey(key.public_key())
        self._header = header_of(self.public)

    def sign(self, answer: Mapping[str, Any]) -> str:
        """The signature of an answer, as JSON without nulls. Raises ValueError where it has no canonical form."""
        return f"{self._header}..{base64url(self._key.sign(_signed_bytes(self._header, answer)))}"


class SignatureCheck(NamedTuple):
    """What became of checking the signature of an answer."""

    holds: bool
    key: str | None
    """id of the key that it names; None without a signature that can be read"""
    detail: str
    """what is wrong; empty where it holds"""


def check_signature(answer: Mapping[str, Any], keys: Sequence[VerificationKey]) -> SignatureCheck:
    """Whether an answer, as JSON, is what one of the `keys` has signed."""
    text = answer.get(MEMBER)
    if text is None:
        return SignatureCheck(False, None, "the answer has none")
    try:
        header, value = _parts(text)
        key_id = _key_id(header)
    except ValueError as error:
        return SignatureCheck(False, None, f"it is none of an answer: {error}")
    key = next((key for key in keys if key.id == key_id), None)
    if key is None:
        known = ", ".join(key.id for key in keys)
        return SignatureCheck(False, key_id, f"it is of the key {key_id}, and the known ones are {known}")
    try:
        key.public.verify(value, _signed_bytes(header, _without_nulls(dict(answer))))
    except InvalidSignature:
        return SignatureCheck(False, key_id, f"the answer is not as the key {key_id} has signed it")
    except ValueError as error:
        return SignatureCheck(False, key_id, f"the answer has a value that none is signed with: {error}")
    return SignatureCheck(True, key_id, "")


def _signed_bytes(header: str, answer: Mapping[str, Any]) -> bytes:
    payload = canonical_json({name: value for name, value in answer.items() if name != MEMBER})
    return f"{header}.{base64url(payload)}".encode()


def _without_nulls(value: Any) -> Any:
    """A document whose members without a value are left out, as answers leave them out."""
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _parts(text: Any) -> tuple[str, bytes]:
    """The header, still encoded, and the value of a signature. Raises ValueError."""
    found = _DETACHED.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("a JWS with a detached payload is `header..signature`")
    return found[1], from_base64url(found[2])


def _key_id(header: str) -> str:
    """The key that a header names. Raises ValueError where it is not the header of an answer's signature."""
    said = json.loads(from_base64url(header))
    key_id = said.get("kid") if isinstance(said, dict) else None
    if not isinstance(key_id, str) or said != {"alg": ALGORITHM, "kid": key_id, "typ": TYPE}:
        raise ValueError(f"its header has not `alg` {ALGORITHM}, `typ` {TYPE}, a `kid` and nothing else")
    return key_id
