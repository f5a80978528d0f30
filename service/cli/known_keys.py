"""The keys that the caller of a command trusts to have signed an answer: from files, and from a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from service.errors import BackendUnavailable, UnexpectedAnswer

if TYPE_CHECKING:
    from service.signing_keys import VerificationKey

TIMEOUT_S = 30.0


def known_keys(files: Sequence[Path], url: str | None) -> tuple[VerificationKey, ...]:
    """All keys of the files, and of the key set at the URL.

    Raises InvalidSigningKey for a file, UnexpectedAnswer for what the URL gives, BackendUnavailable where it gives
    nothing for now.
    """
    # Only checking signatures needs `cryptography`, which an installation of the client alone has not.
    from service.signing_keys import read_public_keys

    found = [key for file in files for key in read_public_keys(file)]
    if url is not None:
        found += _fetched(url)
    return tuple(found)


def _fetched(url: str) -> tuple[VerificationKey, ...]:
    from service.signing_keys import keys_of_set

    try:
        reply = httpx.get(url, timeout=TIMEOUT_S)
    except httpx.TransportError as error:
        raise BackendUnavailable(f"The keys at {url} cannot be fetched: {error or type(error).__name__}.") from error
    if reply.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise BackendUnavailable(f"The keys at {url} cannot be fetched: the server answers {reply.status_code}.")
    if reply.status_code != httpx.codes.OK:
        raise UnexpectedAnswer(f"There are no keys at {url}: the server answers {reply.status_code}.")
    try:
        return keys_of_set(reply.json())
    except ValueError as error:
        raise UnexpectedAnswer(f"There are no keys at {url}: {error}.") from error
